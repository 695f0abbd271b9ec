//! Which processes the rules of a Mac are for, by what `ps -axww -o pid=,uid=,gid=` prints.

/// The numbers of the processes of that user, or with that group. An error if a line is none of ps's: then nobody knows.
pub fn bound(text: &str, user: u32, group: u32) -> Result<Vec<i32>, String> {
    let mut all = Vec::new();
    for process in rcc_host::macos::processes(text)? {
        if !process.rest.is_empty() {
            return Err(format!("not understood: {process:?}"));
        }
        if process.uid == i64::from(user) || process.gid == i64::from(group) {
            let pid = i32::try_from(process.pid).ok().filter(|pid| *pid > 1);
            all.push(pid.ok_or_else(|| format!("no process: {process:?}"))?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_user_or_with_the_group() {
        let text = "    1     0     0\n  321   391   391\n  400   501   392\n  401   501    20\n  500    -2    -2\n";
        assert_eq!(bound(text, 391, 392).unwrap(), [321, 400]);
        assert!(bound("  321   391   391 x\n", 391, 392).is_err());
        assert!(bound("PID UID GID\n", 391, 392).is_err());
        assert!(bound("  1   391   391\n", 391, 392).is_err(), "launchd is never ended");
        assert_eq!(bound("", 391, 392).unwrap(), [0_i32; 0]);
    }
}
