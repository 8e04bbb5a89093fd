//! Turns clap's errors into one line that says what to do. clap's own messages speak of data
//! types and are several lines long.

use std::error::Error as _;
use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;

/// Explains a complete command line in error messages.
const USUAL: &str = "gate takes where to listen, where to forward to and the PEM file, as in \
                     gate 9091 9090 cert.pem";

/// Describes `error` in a sentence, or in clap's words if no option of the gate can cause it. An
/// option that is not in `given` came from the environment and is called by its variable's name.
pub(super) fn sentence(error: &clap::Error, given: &[OsString]) -> String {
    explain(error, given).unwrap_or_else(|| first_paragraph(&error.to_string()))
}

fn explain(error: &clap::Error, given: &[OsString]) -> Option<String> {
    let arguments = texts(error, ContextKind::InvalidArg);
    let argument = source(option(arguments.first()?), given);
    let value = texts(error, ContextKind::InvalidValue).into_iter().next();
    let valid = either(&texts(error, ContextKind::ValidValue));
    match error.kind() {
        ErrorKind::ValueValidation => {
            Some(format!("{argument} cannot be {:?}: {}", value?, error.source()?))
        }
        ErrorKind::InvalidValue => Some(match (value?.as_str(), valid.as_str()) {
            ("", _) if argument.starts_with('<') => {
                format!("{} is empty; {USUAL}", argument.trim_matches(['<', '>']))
            }
            ("", "") => format!("{argument} needs a value after it"),
            ("", valid) => format!("{argument} needs a value after it: {valid}"),
            (value, valid) => format!("{argument} cannot be {value:?}: give {valid}"),
        }),
        ErrorKind::TooManyValues => {
            Some(format!("{argument} takes no value, but was given {:?}", value?))
        }
        ErrorKind::UnknownArgument if argument.starts_with('-') => {
            let similar = texts(error, ContextKind::SuggestedArg);
            let question = similar.first().map(|it| format!("; did you mean {}?", option(it)));
            Some(format!("there is no option {argument}{}", question.unwrap_or_default()))
        }
        ErrorKind::UnknownArgument => Some(format!(
            "{argument:?} is one argument too many: {USUAL}; several PEM files are one argument \
             with commas, as key.pem,chain.pem"
        )),
        ErrorKind::MissingRequiredArgument => {
            let names: Vec<_> =
                arguments.iter().map(|name| name.trim_matches(['<', '>'])).collect();
            Some(format!("missing: {}; {USUAL}", names.join(", ")))
        }
        ErrorKind::ArgumentConflict if texts(error, ContextKind::PriorArg) == arguments => {
            Some(format!("{argument} is given more than once; leave one"))
        }
        _ => None,
    }
}

fn texts(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// The name of an option without its value: `--drain` of `--drain <TIME>`.
fn option(usage: &str) -> &str {
    usage.split_once(" <").map_or(usage, |(name, _)| name)
}

/// The option, or the environment variable that it came from.
fn source(option: &str, given: &[OsString]) -> String {
    let is_given = |argument: &OsString| {
        let argument = argument.to_string_lossy();
        argument.strip_prefix(option).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    if given.iter().any(is_given) {
        return option.to_owned();
    }
    let command = Cli::command();
    let known = command
        .get_arguments()
        .find(|known| known.get_long().is_some_and(|long| option.strip_prefix("--") == Some(long)));
    let variable =
        known.and_then(|known| known.get_env()).filter(|it| std::env::var_os(it).is_some());
    variable.map_or_else(|| option.to_owned(), |it| it.to_string_lossy().into_owned())
}

fn either(values: &[String]) -> String {
    match values {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
    }
}

/// The first paragraph of clap's message. The later paragraphs are about usage and help.
fn first_paragraph(message: &str) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let lines = message.lines().map(str::trim).take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn what_nothing_can_cause_is_the_first_paragraph() {
        let error = clap::Error::raw(ErrorKind::Io, "the disk\nis gone\n\n  tip: buy another\n");
        assert_eq!(sentence(&error, &[]), "the disk is gone");
    }

    /// Fails when a new option has no sentence of its own and clap's message would be shown.
    #[test]
    fn every_option_has_words_of_its_own() {
        let mut tried = 0;
        let command = Cli::command();
        for name in command.get_arguments().filter_map(|argument| argument.get_long()) {
            for line in [format!("gate --{name}"), format!("gate --{name}=")] {
                let given: Vec<OsString> = line.split(' ').map(OsString::from).collect();
                if let Err(error) = Cli::try_parse_from(&given) {
                    let text = sentence(&error, &given);
                    let own = explain(&error, &given).is_some() || error.exit_code() == 0;
                    assert!(own && !text.contains("tip:"), "{line}: {text}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 20);
    }
}
