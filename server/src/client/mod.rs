//! The senders and the listener of the command line, for cron jobs and administrators.

mod listen;
mod send;

use std::io::Write as _;

use hyper::Uri;

use crate::auth::KeyHash;
use crate::cli::{ClientCommand, IdArgs, OptionalIdArgs};
use crate::error::Error;
use crate::id::{Id, random_hex};
use crate::secret;

/// Does what a subcommand asks for.
///
/// # Errors
/// What the exit code tells; see [`Error::exit_code`].
pub async fn run(command: ClientCommand) -> Result<(), Error> {
    match command {
        ClientCommand::Send { id, publish } => {
            let IdArgs { id, id_file } = id;
            let id = given_id(OptionalIdArgs { id, id_file })?;
            send::send(publish, id).await
        }
        ClientCommand::Broadcast { publish } => send::send(publish, None).await,
        ClientCommand::Listen { tag, id, key_file, count, to } => {
            let id = given_id(id)?;
            let key = key_file.map(|file| secret::first_line("key file", &file)).transpose()?;
            listen::listen(&tag, id.as_ref(), key.as_deref(), count, &to.to).await
        }
        ClientCommand::NewId { user, secret_file, version } => {
            let id = match (user, secret_file) {
                (Some(user), Some(file)) => {
                    let secret = secret::first_line("secret file", &file)?;
                    if secret.len() < Id::MIN_SECRET || user.is_empty() {
                        return Err(Error::Data(format!(
                            "an ID needs a secret of at least {} bytes and a user",
                            Id::MIN_SECRET
                        )));
                    }
                    Id::derive(secret.as_bytes(), &user, version)
                }
                _ => Id::generate().map_err(Error::no_randomness)?,
            };
            print_line(id.reveal())
        }
        ClientCommand::NewKey => print_line(&random_hex::<32>().map_err(Error::no_randomness)?),
        ClientCommand::HashKey { file } => {
            let key = secret::first_line("key file", &file)?;
            let hash = KeyHash::parse(&key).map_err(|error| Error::Content {
                what: "key file",
                file,
                reason: error.to_string(),
            })?;
            print_line(&hash.to_string())
        }
    }
}

fn given_id(args: OptionalIdArgs) -> Result<Option<Id>, Error> {
    let text = match (args.id, args.id_file) {
        // A file that is named wins over the environment.
        (_, Some(file)) => secret::first_line("ID file", &file)?,
        (Some(text), None) => text,
        (None, None) => return Ok(None),
    };
    Id::parse(&text).map(Some).map_err(|error| Error::Data(format!("weak_id: {error}")))
}

pub(crate) fn print_line(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|source| Error::Os { what: "stdout", source })
}

/// Where the server is, taken apart.
#[derive(Debug, Clone)]
struct Server {
    /// `name:port`, to connect to and for the `Host` header.
    authority: String,
    /// A path prefix without a slash at its end.
    prefix: String,
}

impl Server {
    fn parse(url: &str) -> Result<Self, Error> {
        let fault = |what: &str| Error::Option { option: "--to", reason: format!("{url}: {what}") };
        let uri: Uri = url.parse().map_err(|_| fault("write http://ADDR:PORT"))?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some("https" | "wss") => {
                return Err(fault(
                    "this command speaks to the server itself, without TLS, as in \
                     http://127.0.0.1:9090",
                ));
            }
            _ => return Err(fault("write http://ADDR:PORT")),
        }
        let host = uri.host().ok_or_else(|| fault("write http://ADDR:PORT"))?;
        let port = uri.port_u16().unwrap_or(80);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { authority: format!("{host}:{port}"), prefix })
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Unavailable(format!(
            "no answer from {}: {error}; does the server run?",
            self.authority
        ))
    }
}
