//! A child process that ends with its test.

use std::ffi::OsStr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A command with an empty environment and empty stdin, so that the test decides all input of the
/// program.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// Like [`command`], but a launcher such as `setpriv` or `sh -c 'exec "$@"' sh` runs first and then
/// executes the program.
pub fn command_through(launcher: &[&str], program: impl AsRef<OsStr>) -> Command {
    let mut through = command(launcher[0]);
    through.args(&launcher[1..]).arg(program);
    through
}

/// Runs `command` to its end. Other tasks of the test continue meanwhile.
///
/// # Panics
/// If the program cannot be started.
pub async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// A child process. Dropping it kills the process and waits for its end.
#[derive(Debug)]
pub struct Process(pub(crate) Child);

impl Process {
    /// Starts `command`.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn start(mut command: Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("cannot start {:?}: {error}", command.get_program()),
        }
    }

    /// The process ID.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// If the process has ended and was waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the process. Blocks the thread.
    ///
    /// # Panics
    /// If waitpid(2) fails.
    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
