//! An import that gets its file piece by piece, so that what is in the middle of it is known.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use millrace_e2e_tests::Cli;

/// Pieces that wait until the command takes them.
const AHEAD: usize = 4;

/// A `millrace import` that reads its standard input.
pub(super) struct FedImport {
    command: Child,
    pieces: SyncSender<String>,
    feeder: JoinHandle<()>,
}

impl FedImport {
    /// Starts it on CSV of a stream, numbered under this name.
    pub(super) fn start(cli: &Cli, stream: &str, producer: &str) -> Self {
        let source = format!("{stream}=-");
        let args = ["-o", "json", "import", &source, "--producer", producer, "--format", "csv"];
        let mut command = cli.command(args).expect("the binary");
        let mut command = command.stdin(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = command.stdin.take().expect("it was asked for");
        let (pieces, taken) = mpsc::sync_channel::<String>(AHEAD);
        // A command that holds back does not hold up whoever feeds it.
        let feeder = thread::spawn(move || {
            for piece in taken {
                // A command that was killed takes nothing more.
                if stdin.write_all(piece.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Self { command, pieces, feeder }
    }

    /// Gives it more of its file.
    pub(super) fn feed(&self, piece: String) {
        self.pieces.send(piece).expect("it is not killed yet");
    }

    /// Kills it, whatever it is about.
    pub(super) fn kill(mut self) {
        let ended = self.command.try_wait().expect("its state can be asked for");
        assert!(ended.is_none(), "it ended by itself: {ended:?}");
        self.command.kill().expect("it can be killed");
        self.command.wait().expect("it ended");
        drop(self.pieces);
        self.feeder.join().expect("no panic");
    }
}
