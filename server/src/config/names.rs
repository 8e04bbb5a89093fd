//! The names that there are, and the one that was meant.

use clap::CommandFactory as _;

use super::cli::Cli;
use super::file::HistoryTable;
use super::table::OPTIONS;

/// Those at the top of the configuration file.
pub(super) fn in_file() -> Vec<&'static str> {
    let options = OPTIONS.iter().map(|option| option.name);
    options.chain(HistoryTable::NAMES).chain(["tags"]).collect()
}

const PREFIX: &str = "TOCSIN_";
/// Read by the senders without an option, and by the deploy hook of scripts/systemd.
const OTHERS: [&str; 2] = ["TOCSIN_KEY", "TOCSIN_CERT"];

/// A warning for each variable that looks like an option and is none. Other programs may have their
/// own of such a name, so they are no faults.
pub(super) fn stray(variables: impl Iterator<Item = String>) -> Vec<String> {
    let cli = Cli::command();
    let mut known: Vec<&str> = OTHERS.into();
    for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
        let names = command.get_arguments().filter_map(|option| option.get_env()?.to_str());
        known.extend(names);
    }
    let mut stray: Vec<String> = variables
        .filter(|name| name.starts_with(PREFIX) && !known.contains(&name.as_str()))
        .collect();
    stray.sort();
    let words = |name: &String| match nearest(name, &known) {
        Some(meant) => {
            format!("{name} in the environment is no option: did you mean {meant}?")
        }
        None => format!("{name} in the environment is no option; `server --help` names them"),
    };
    stray.iter().map(words).collect()
}

/// What was meant by `name`, if one of the `known` differs in a few letters.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let most = (name.len() / 4).max(1);
    let near = known.iter().map(|&known| (strsim::osa_distance(name, known), known));
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_a_few_letters_was_meant() {
        for (name, meant) in [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("nat-size", Some("nats-size")),
            ("max_memory", Some("max-memory")),
            ("listen-proxi", Some("listen-proxy")),
            ("port", None),
            ("logs", Some("log")),
            ("", None),
        ] {
            assert_eq!(nearest(name, &in_file()), meant, "{name}");
        }
    }

    #[test]
    fn variables_of_every_command_are_known() {
        let known =
            ["TOCSIN_LISTEN", "TOCSIN_URL", "TOCSIN_ID", "TOCSIN_KEY", "TOCSIN_CERT", "HOME"];
        assert!(stray(known.into_iter().map(str::to_owned)).is_empty());
        let unknown = ["TOCSIN_ZZZZZZ", "TOCSIN_PROTCET"].map(str::to_owned);
        let [first, second] = &stray(unknown.into_iter())[..] else { panic!() };
        assert!(first.ends_with("did you mean TOCSIN_PROTECT?"), "{first}");
        assert!(second.contains("TOCSIN_ZZZZZZ") && second.contains("--help"), "{second}");
    }
}
