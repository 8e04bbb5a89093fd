//! The commands that send, listen and make IDs and keys, for cron jobs and administrators.

pub(crate) mod args;
mod listen;
mod message;
mod registration;
mod send;
mod server;

use std::io::Write as _;

use crate::access::auth::KeyHash;
use crate::error::Error;
use crate::hex::random_hex;
use crate::id::Id;
use crate::secret_file;
use args::{ClientCommand, IdArgs};

/// Runs a command of the command line to its end.
///
/// # Errors
/// Any [`Error`]; [`Error::exit_code`] is the exit status for it.
pub async fn run(command: ClientCommand) -> Result<(), Error> {
    match command {
        ClientCommand::Send { id, publish } => send::send(publish, given_id(id)?).await,
        ClientCommand::Broadcast { publish } => send::send(publish, None).await,
        ClientCommand::Listen { tag, id, key_file, count, to } => {
            let id = given_id(id)?;
            let key =
                key_file.map(|file| secret_file::first_line("key file", &file)).transpose()?;
            listen::listen(&tag, id.as_ref(), key.as_deref(), count, &to.to).await
        }
        ClientCommand::NewId { user, secret_file, version } => {
            let id = match (user, secret_file) {
                (Some(user), Some(file)) => {
                    let secret = secret_file::first_line("secret file", &file)?;
                    if secret.len() < Id::MIN_SECRET || user.is_empty() {
                        return Err(Error::Data(format!(
                            "the user is empty, or the secret is shorter than {} bytes: give \
                             both, for an ID is derived from them",
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
            let key = secret_file::first_line("key file", &file)?;
            let hash = KeyHash::parse(&key).map_err(|error| Error::Content {
                what: "key file",
                file,
                reason: error.to_string(),
            })?;
            print_line(&hash.to_string())
        }
    }
}

fn given_id(args: IdArgs) -> Result<Option<Id>, Error> {
    let text = match (args.id, args.id_file) {
        // A file wins over an ID from the command line or the environment.
        (_, Some(file)) => secret_file::first_line("ID file", &file)?,
        (Some(text), None) => text,
        (None, None) => return Ok(None),
    };
    Id::parse(&text).map(Some).map_err(|error| Error::Data(format!("weak_id: {error}")))
}

/// Prints a line about the connection on stderr; stdout is for messages.
fn report(words: &str) {
    // The command goes on if stderr is closed.
    let _ = writeln!(std::io::stderr(), "server: {words}");
}

pub(crate) fn print_line(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|source| Error::Os { what: "stdout", source })
}
