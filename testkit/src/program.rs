//! A program under test: its announcements, its log, and its exit.

use std::process::{Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal};

use crate::lines::Lines;
use crate::process::Process;

/// A running program whose output is read. Dropping it kills the program.
#[derive(Debug)]
pub struct Program {
    process: Process,
    /// The lines on stdout. The first ones announce the addresses where the program listens.
    pub stdout: Lines,
    /// The lines on stderr, which are the log.
    pub stderr: Lines,
}

/// The exit status and the unread output of a program.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// The lines on stdout that the test has not read yet.
    pub stdout: Vec<String>,
    /// The log lines that the test has not read yet.
    pub stderr: Vec<String>,
}

impl Program {
    /// Starts `command`.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(command);
        let stdout = Lines::of(process.0.stdout.take().unwrap());
        let stderr = Lines::of(process.0.stderr.take().unwrap());
        Self { process, stdout, stderr }
    }

    /// The name and the address of the next announcement, `listening NAME ADDRESS`. Blocks the
    /// thread.
    ///
    /// # Panics
    /// If the program ends instead, prints another line, or prints nothing within a minute.
    #[track_caller]
    pub fn announcement(&self) -> (String, String) {
        let Some(line) = self.stdout.next_blocking() else {
            panic!("the program ended at its start: {:?}", self.stderr.rest_blocking())
        };
        let announced = line.strip_prefix("listening ").and_then(|line| line.split_once(' '));
        let Some((name, address)) = announced else { panic!("{line:?} is no announcement") };
        (name.to_owned(), address.to_owned())
    }

    /// The address of the next announcement, whose name must be `name`. Blocks the thread.
    ///
    /// # Panics
    /// If the next announcement has another name, or if none comes.
    #[track_caller]
    pub fn announced(&self, name: &str) -> String {
        let (found, address) = self.announcement();
        assert_eq!(found, name, "the name of an announcement");
        address
    }

    /// The process ID of the program.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Sends a signal to the program.
    ///
    /// # Panics
    /// If the program has ended and was waited for.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    /// If the program does not end within [`PATIENCE`](crate::PATIENCE).
    pub async fn ended(mut self) -> Ended {
        // The program's output ends when the program ends.
        let (stdout, stderr) = tokio::join!(self.stdout.rest(), self.stderr.rest());
        Ended { status: self.process.wait(), stdout, stderr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;

    fn shell(script: &str) -> Program {
        let mut shell = command("/bin/sh");
        shell.args(["-c", script]);
        Program::start(shell)
    }

    #[tokio::test]
    async fn announcements_are_read_and_the_rest_is_kept() {
        let program = shell("echo listening a 1; echo listening b 2; echo c; echo d >&2; exit 3");
        assert_eq!(program.announced("a"), "1");
        assert_eq!(program.announcement(), ("b".to_owned(), "2".to_owned()));
        let ended = program.ended().await;
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!((ended.stdout, ended.stderr), (vec!["c".to_owned()], vec!["d".to_owned()]));
    }

    #[test]
    #[should_panic(expected = "the reason")]
    fn a_program_that_ends_at_its_start_is_quoted() {
        shell("echo the reason >&2").announced("a");
    }
}
