//! `gate 9091 9090 cert.pem`: accepts TLS on 9091 and forwards the bytes to 9090.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::ExitCode;

use gate::{Cli, Command, Config, Error, Listeners};
use shared::shutdown::{Drained, Hangups, Shutdown, StopSignals};
use shared::{service, telemetry, workers};

fn main() -> ExitCode {
    let command = match Command::parse(std::env::args_os()) {
        Ok(Command::Run(cli)) => *cli,
        Ok(Command::Print(text)) => {
            // A failed write, for example to a closed pipe, is not reported as an error.
            let _ = write!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error),
    };
    match start(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Prints one line on stderr, and returns the exit code.
fn fail(error: &Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "gate: {error}");
    ExitCode::from(error.exit_code())
}

fn start(cli: &Cli) -> Result<(), Error> {
    telemetry::init(&cli.log, cli.log_format())
        .map_err(|error| Error::Usage(format!("--log {:?}: {error}", cli.log)))?;
    let config = Config::resolve(cli)?;
    if cli.check {
        let _ = write!(std::io::stdout(), "{}", gate::check(&config)?);
        return Ok(());
    }
    // `tcp_sockets` must run before other threads start, because it changes the environment.
    let given = service::tcp_sockets()
        .map_err(|source| Error::System { what: "use the sockets given", source })?;
    let runtime =
        workers::runtime().map_err(|source| Error::System { what: "start the runtime", source })?;
    let served = runtime.block_on(serve(config, given));
    // The shutdown does not wait for a read of the PEM file, because its file system may hang.
    runtime.shutdown_background();
    served
}

async fn serve(config: Config, given: Vec<TcpListener>) -> Result<(), Error> {
    // The handlers are installed before the port is announced, so that a signal right afterwards is
    // handled.
    let mut signals = StopSignals::install()
        .map_err(|source| Error::System { what: "handle signals", source })?;
    let hangups =
        Hangups::install().map_err(|source| Error::System { what: "handle signals", source })?;
    let listeners = Listeners::open(&config, given)?;
    listeners.announce();

    let shutdown = Shutdown::new();
    let stopped = async {
        let signal = signals.next().await;
        tracing::info!(
            "{signal}: accepting no more connections; a second signal ends gate at once"
        );
        shutdown.stop();
        signals.next().await
    };
    tokio::select! {
        drained = gate::run(listeners, config, hangups, shutdown.clone()) => match drained? {
            Drained::Clean => tracing::info!("ended: no connection was left"),
            Drained::Late(left) => {
                tracing::warn!(
                    connections = left,
                    "ended at the limit of --drain: the remaining connections were cut"
                );
            }
        },
        signal = stopped => tracing::warn!("{signal} again: ended at once"),
    }
    Ok(())
}
