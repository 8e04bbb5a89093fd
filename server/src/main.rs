//! The server program. It reads the configuration, opens the log and the sockets, runs, and returns
//! an exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use server::{
    Cli, Command, Config, Error, Listeners, RunArgs, Source, adopt_settings, check, new_epoch, run,
    run_client,
};
use shared::service::{self, Given};
use shared::shutdown::{Hangups, Shutdown, StopSignals};
use shared::{exit, telemetry, workers};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed to stdout, and the exit code is 0.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    // This reads environment variables and removes them, which is safe only before other threads
    // start.
    let given = match &cli.command {
        None => service::sockets(),
        Some(_) => Ok(Vec::new()),
    };
    // The runtime of this thread. A running server starts more threads, each with a runtime.
    let result = match workers::runtime() {
        Err(source) => Err(Error::Os { what: "starting threads", source }.into()),
        Ok(runtime) => {
            let result = runtime.block_on(perform(cli, given));
            // The exit does not wait for blocking tasks: a service manager may not answer, or a
            // disk may hang.
            runtime.shutdown_background();
            result
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => {
            for error in &errors {
                let _ = writeln!(io::stderr(), "server: {error}");
            }
            errors.first().map_or(exit::SOFTWARE, Error::exit_code).into()
        }
    }
}

async fn perform(cli: Cli, given: io::Result<Vec<Given>>) -> Result<(), Vec<Error>> {
    match cli.command {
        Some(Command::Check { run }) => check(*run).await,
        Some(Command::NewEpoch { data, id_key_file }) => {
            Ok(new_epoch(&data, id_key_file.as_deref())?)
        }
        Some(Command::AdoptSettings { run, new_epoch }) => {
            let config = Config::resolve(*run)?;
            start_log("warn", config.log_format)?;
            Ok(adopt_settings(&config, new_epoch).await?)
        }
        Some(Command::Client(command)) => {
            start_log("warn", telemetry::LogFormat::Text)?;
            Ok(run_client(command).await?)
        }
        None => serve(cli.run, given).await,
    }
}

async fn serve(args: RunArgs, given: io::Result<Vec<Given>>) -> Result<(), Vec<Error>> {
    let config = Config::resolve(args.clone())?;
    start_log(&config.log, config.log_format)?;
    let mut signals =
        StopSignals::install().map_err(|source| Error::Os { what: "signals", source })?;
    let hangups = Hangups::install().map_err(|source| Error::Os { what: "signals", source })?;
    let given = given
        .map_err(|source| Error::Os { what: "using the sockets of the service manager", source })?;
    config.check_addresses(!given.is_empty())?;
    let listeners = Listeners::open(&config.sockets, given)?;
    let shutdown = Shutdown::new();
    let running = run(listeners, config, Source { args, hangups }, shutdown.clone());
    tokio::pin!(running);
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        signal = signals.next() => tracing::info!(signal, "stopping"),
    }
    shutdown.stop();
    tokio::select! {
        ended = running => Ok(ended?),
        signal = signals.next() => {
            tracing::warn!(signal, "a second signal: ending at once");
            Ok(())
        }
    }
}

fn start_log(filter: &str, format: telemetry::LogFormat) -> Result<(), Error> {
    telemetry::init(filter, format)
        .map_err(|error| Error::Option { option: "log", reason: format!("{filter}: {error}") })
}
