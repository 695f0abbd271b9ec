//! The Mac itself: Apple's programs by absolute path, and files by [`mod@crate::place`].

use super::{Call, Found, Mac, Place, Said};
use crate::layout::{folder, made, misplaced};
use crate::output::output;
use rcc_report::{Code, Problem};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// This Mac.
pub struct System;

impl Mac for System {
    fn run(&self, call: &Call) -> Result<Said, Problem> {
        let output = output(Path::new(&call.program), &call.arguments);
        let output = output.map_err(|e| {
            let remedy = format!("run it by hand: sudo {} {}", call.program, call.arguments.join(" "));
            Problem::new(Code::SETUP_LAUNCHD, call.program.clone(), format!("it can't be run: {e}"), remedy)
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // Without a code a signal ended it.
        Ok(Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
    }

    fn found(&self, place: Place, name: &str) -> Result<Found, Problem> {
        let wrong = |e| misplaced(place.folder, &e);
        let Some(above) = folder(place.folder)? else { return Ok(Found::Nothing) };
        if !above.has(name).map_err(wrong)? {
            return Ok(Found::Nothing);
        }
        if let Ok(Some(target)) = above.link(name) {
            return Ok(Found::Link(target));
        }
        if let Ok(Some(inner)) = above.inner(name) {
            let (uid, gid, mode) = inner.owner().map_err(wrong)?;
            return Ok(if ((uid, gid), mode) == (place.owner, place.mode) { Found::Folder } else { Found::Other });
        }
        let bytes = above.read_of(name, place.owner, place.mode).map_err(wrong)?;
        Ok(bytes.map_or(Found::Other, Found::File))
    }

    fn write(&self, place: Place, name: &str, bytes: &[u8]) -> Result<(), Problem> {
        let above = made(place.folder)?;
        above.write_for(name, bytes, place.owner, place.mode).map_err(|e| misplaced(place.folder, &e))
    }

    fn link(&self, place: Place, name: &str, target: &str) -> Result<(), Problem> {
        made(place.folder)?.make_link(name, target).map_err(|e| misplaced(place.folder, &e))
    }

    fn make(&self, place: Place, name: &str) -> Result<(), Problem> {
        let wrong = |e| misplaced(place.folder, &e);
        let inner = made(place.folder)?.make(name, place.mode).map_err(wrong)?;
        let (uid, _, _) = inner.owner().map_err(wrong)?;
        inner.give(uid, place.owner, place.mode).map_err(wrong)
    }

    fn remove(&self, place: Place, name: &str) -> Result<(), Problem> {
        let wrong = |e| misplaced(place.folder, &e);
        let Some(mut above) = folder(place.folder)? else { return Ok(()) };
        let (inner, name) = name.split_once('/').map_or((None, name), |(inner, name)| (Some(inner), name));
        if let Some(inner) = inner {
            let Some(inner) = above.inner(inner).map_err(wrong)? else { return Ok(()) };
            above = inner;
        }
        above.remove(name).map_err(wrong)?;
        above.remove(format!("{name}.rcc-new")).map_err(wrong)
    }

    fn bytes(&self, folder_name: &str, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        let Some(folder) = folder(folder_name)? else { return Ok(None) };
        folder.bytes(name).map_err(|e| misplaced(folder_name, &e))
    }

    fn is_anothers(&self, folder_name: &str) -> bool {
        folder(folder_name).is_err()
    }

    fn names(&self, folder_name: &str) -> Result<Vec<String>, Problem> {
        let Some(folder) = folder(folder_name)? else { return Ok(Vec::new()) };
        let names = folder.names().map_err(|e| misplaced(folder_name, &e))?;
        Ok(names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
    }

    fn listens(&self, socket: &str) -> bool {
        UnixStream::connect(socket).is_ok()
    }

    fn wait(&self) {
        std::thread::sleep(Duration::from_millis(100));
    }
}
