//! A process that ends with the one that started it, however that one ends: for servers that all tests
//! of a process share, which nobody drops.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::process::{Process, ServerError};

/// `$0` is the folder, the rest the program. The end of standard input, which only its parent holds
/// open, ends the program; what it leaves behind is removed unless a file says to keep it.
const WRAPPER: &str = r#"
exec 3<&0
"$@" <&- 3<&- &
pid=$!
echo $pid > "$0/pid"
(cat <&3 >/dev/null; kill -9 $pid 2>/dev/null) &
watch=$!
wait $pid
code=$?
kill $watch 2>/dev/null
[ -e "$0/keep" ] || rm -rf "$0"
exit $code
"#;

/// A program behind the wrapper.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    /// Closed, it ends the program.
    stdin: Option<ChildStdin>,
    process: Process,
}

impl Kept {
    /// Starts a program, given as its words, in a folder that is its own.
    pub(crate) fn start(
        words: &[String],
        folder: &Path,
        hint: &'static str,
    ) -> Result<Self, ServerError> {
        let keep = folder.join("keep");
        if keep.exists() {
            fs::remove_file(&keep).map_err(ServerError::io("remove a file"))?;
        }
        let mut command = Command::new("sh");
        command.args(["-c", WRAPPER]).arg(folder).args(words).stdin(Stdio::piped());
        let mut process = Process::start(&mut command, &folder.join("output.log"), hint)?;
        let stdin = process.take_stdin();
        Ok(Self { folder: folder.to_owned(), stdin, process })
    }

    /// Waits until `ready` says so.
    pub(crate) fn wait_ready(
        &mut self,
        limit: Duration,
        ready: impl FnMut() -> bool,
    ) -> Result<(), ServerError> {
        self.process.wait_ready(limit, ready)
    }

    /// Sends the program a signal by its name.
    pub(crate) fn signal(&self, name: &str) -> Result<(), ServerError> {
        let pid = fs::read_to_string(self.folder.join("pid"));
        let pid = pid.map_err(ServerError::io("read a process id"))?;
        crate::process::signal(pid.trim(), name)
    }

    /// Ends the program with SIGKILL and keeps its folder.
    pub(crate) fn kill(mut self) -> Result<(), ServerError> {
        fs::write(self.folder.join("keep"), "").map_err(ServerError::io("write a file"))?;
        self.stdin = None;
        self.process.wait()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stdin = None;
        // The wrapper ends it and removes the folder.
        let _ = self.process.wait();
    }
}
