// What stands for nix-ld: the loader's place taken by a program that maps the loader of NIX_LD and hands it
// NIX_LD_LIBRARY_PATH as LD_LIBRARY_PATH. Less than nix-ld: the variable stays for what the program starts.
// cc -O1 -nostdlib -static-pie -fpie -ffreestanding -fno-stack-protector -o nix-ld nix-ld.c
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
__asm__(".globl _start\n_start: mov %rsp, %rbx\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n"
        " mov %rbx, %rsp\n xor %edx, %edx\n jmp *%rax");
static long call(long n, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return n;
}
#else
__asm__(".globl _start\n_start: mov x0, sp\n mov x19, sp\n bl begin\n mov sp, x19\n mov x9, x0\n mov x0, #0\n br x9");
static long call(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c,
                  x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#endif

static void end(int code) { call(SYS_exit_group, code, 0, 0, 0, 0, 0); }

static long mapped(unsigned long at, unsigned long size, int prot, int flags, int file, long offset) {
    long done = call(SYS_mmap, at, size, prot, MAP_PRIVATE | flags, file, offset);
    if (done < 0 && done > -4096) end(126);
    return done;
}

static char *named(char *variable, const char *name) {
    while (*name && *variable == *name) variable++, name++;
    return *name ? 0 : variable;
}

// From the kernel's stack to where the loader begins.
unsigned long begin(unsigned long *stack) {
    char **variable = (char **)stack + 1 + *stack + 1, *loader = 0, **ours = 0, **theirs = 0, *found;
    for (; *variable; variable++) {
        if ((found = named(*variable, "NIX_LD="))) loader = found;
        if (named(*variable, "NIX_LD_LIBRARY_PATH=")) ours = variable;
        if (named(*variable, "LD_LIBRARY_PATH=")) theirs = variable;
    }
    if (!loader) end(127);
    unsigned long *auxiliary = (unsigned long *)(variable + 1);
    while (*auxiliary && *auxiliary != AT_BASE) auxiliary += 2;
    // Started by itself it is the loader, too.
    if (!auxiliary[1]) call(SYS_execve, (long)loader, (long)(stack + 1), (long)(stack + 1 + *stack + 1), 0, 0, 0);
    if (!auxiliary[1]) end(127);
    if (ours) {
        char *to = (char *)mapped(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_ANONYMOUS, -1, 0), *both = to;
        for (char *from = theirs ? *theirs : ""; *from; from++) *to++ = *from;
        if (theirs) *to++ = ':';
        for (char *from = *ours + (theirs ? sizeof "NIX_LD_LIBRARY_PATH=" - 1 : 4); *from; from++) *to++ = *from;
        *(theirs ? theirs : ours) = both;
    }
    int file = call(SYS_openat, AT_FDCWD, (long)loader, O_RDONLY, 0, 0, 0);
    char head[4096];
    if (file < 0 || call(SYS_read, file, (long)head, sizeof head, 0, 0, 0) < (long)sizeof head) end(127);
    Elf64_Ehdr *elf = (void *)head;
    Elf64_Phdr *part = (void *)(head + elf->e_phoff);
    unsigned long whole = 0, page = 0xffff, base;
    for (int i = 0; i < elf->e_phnum; i++)
        if (part[i].p_type == PT_LOAD && part[i].p_vaddr + part[i].p_memsz > whole) whole = part[i].p_vaddr + part[i].p_memsz;
    base = mapped(0, whole + 2 * page, PROT_NONE, MAP_ANONYMOUS, -1, 0);
    base = (base + page) & ~page;
    page = 0xfff;
    for (int i = 0; i < elf->e_phnum; i++) {
        if (part[i].p_type != PT_LOAD) continue;
        int prot = (part[i].p_flags & PF_R ? PROT_READ : 0) | (part[i].p_flags & PF_W ? PROT_WRITE : 0) |
                   (part[i].p_flags & PF_X ? PROT_EXEC : 0);
        unsigned long from = base + part[i].p_vaddr, low = from & page, in_file = from + part[i].p_filesz,
                      after = (in_file + page) & ~page, to = from + part[i].p_memsz;
        mapped(from - low, part[i].p_filesz + low, prot, MAP_FIXED, file, part[i].p_offset - low);
        if (part[i].p_memsz == part[i].p_filesz) continue;
        // To the page's end: the loader's first memory is what is left of it.
        for (volatile char *zero = (char *)in_file; zero < (char *)after; zero++) *zero = 0;
        if (to > after) mapped(after, to - after, prot, MAP_FIXED | MAP_ANONYMOUS, -1, 0);
    }
    call(SYS_close, file, 0, 0, 0, 0, 0);
    auxiliary[1] = base;
    return base + elf->e_entry;
}
