"""What attempts are written with. Each ends in `each` or `once`: exit code 0 when all of it was done, 13 when nothing
was, 14 between; and `denied:` with how."""

import ctypes
import errno
import fcntl
import glob
import os
import pty
import socket
import ssl
import stat
import struct
import subprocess
import sys

T = os.environ["T"]
SINK4, SINK6 = "11.66.66.66", "2600:66::66"
RESOLVER4 = "11.0.0.53"
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
BUFFER = ctypes.create_string_buffer(4096)


class Denied(Exception):
    """It was denied in a way that has no errno."""


def how(error):
    if isinstance(error, socket.gaierror):
        return {-2: "EAI_NONAME", -3: "EAI_AGAIN", -5: "EAI_NODATA"}.get(error.errno, "EAI %s" % error.errno)
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno, type(error).__name__)
    return str(error)


def each(call, *targets):
    done, ways = 0, []
    for target in targets:
        try:
            call(target)
            done += 1
        except (OSError, Denied) as error:
            if how(error) not in ways:
                ways.append(how(error))
    print("done: %d of %d" % (done, len(targets)))
    if ways:
        print("denied: %s" % ", ".join(ways))
    sys.stdout.flush()
    os._exit(0 if done == len(targets) else 13 if done == 0 else 14)


def once(call):
    each(lambda _: call(), None)


def to(address, port):
    return socket.create_connection((address, port), 4)


def tcp(address, port, *, answered=True):
    """Sends the token as a request, and waits for some of the answer."""
    with to(address, port) as s:
        s.sendall(b"GET /%s HTTP/1.1\r\nhost: x.example\r\nconnection: close\r\n\r\n" % T.encode())
        if answered and not s.recv(1):
            raise Denied("closed")


def udp(address, port, *, answered=True, protocol=0):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as s:
        s.settimeout(4)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        s.connect((address, port))
        s.send(T.encode())
        if answered:
            s.recv(1)


def run(*argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=9)
    print(done.stdout + done.stderr)
    if done.returncode:
        raise Denied("%s exit %d" % (os.path.basename(argv[0]), done.returncode))
    return done.stdout


def curl(*arguments):
    return run("curl", "-gsSk", "-m4", *arguments)


def tls(address, sni, host):
    """A request within TLS, to one name's address with another's SNI."""
    context = ssl._create_unverified_context()
    with context.wrap_socket(to(address, 443), server_hostname=sni) as s:
        s.sendall(b"GET /%s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n" % (T.encode(), host.encode()))
        if not s.recv(1):
            raise Denied("closed")


def http(address, *requests):
    """Several requests on one connection; each must be answered by 200."""
    with to(address, 80) as s:
        for request in requests:
            s.sendall(request.encode())
            answer = s.recv(65536)
            if not answer:
                raise Denied("closed")
            if b" 200 " not in answer.split(b"\r\n")[0]:
                raise Denied("HTTP " + answer.split(b" ")[1].decode())


def resolver():
    with open("/etc/resolv.conf") as f:
        return next(line.split()[1] for line in f if line.startswith("nameserver"))


def dns(server, name, kind, option=b""):
    """One question by UDP; without an answer that says yes, it was denied."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    edns = b"\0\0\x29\x10\0\0\0\0\0" + struct.pack(">H", len(option)) + option if option else b""
    head = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 1 if option else 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(4)
        s.connect((server, 53))
        s.send(head + labels + b"\0" + struct.pack(">HH", kind, 1) + edns)
        code = s.recv(4096)[3] & 15
    if code:
        raise Denied({3: "NXDOMAIN", 5: "REFUSED"}.get(code, "rcode %d" % code))


def unix(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as s:
        s.settimeout(4)
        s.connect(path)


def sys_call(number, *arguments):
    values = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def make_socket(family, kind, protocol=0):
    os.close(sys_call(41, family, kind, protocol))


def show(path):
    with open(path, errors="replace") as f:
        print(f.read())


def write(path, mode="a"):
    with open(path, mode) as f:
        f.write("\n# %s\n" % T)


def in_child(call):
    """In a child, for what would change this process or take its terminal; the child's errno comes back."""
    child = os.fork()
    if child == 0:
        number = 0
        try:
            call()
        except OSError as error:
            number = error.errno or 255
        os._exit(number)
    ended(child)


def ended(child):
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        raise Denied("signal %d" % os.WTERMSIG(status))
    if os.WEXITSTATUS(status):
        raise OSError(os.WEXITSTATUS(status), "")


def on_terminal(request):
    """An ioctl on a terminal of its own, which it leads."""
    child, terminal = pty.fork()
    if child == 0:
        number = 0
        try:
            sys_call(16, 0, request, ctypes.c_char_p(b"\x03x"))
        except OSError as error:
            number = error.errno
        os._exit(number)
    try:
        ended(child)
    finally:
        os.close(terminal)


def machine_code(code):
    """Runs x86 instructions; gives what they leave in rax."""
    import mmap

    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))
    value = function()
    value = value - (1 << 32) if 1 << 31 <= value < 1 << 32 else value
    if value < 0:
        raise OSError(-value, "")


def processes(word):
    """The processes in whose arguments a word is."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                if word.encode() in f.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    if not found:
        raise Denied("no such process")
    return found
