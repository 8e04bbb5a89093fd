//! Suggestions ("did you mean") for misspelled names in the file or the environment.

use clap::CommandFactory as _;

use super::cli::Cli;

const PREFIX: &str = "TOCSIN_";
/// Variables that are not options. `server send` and `server broadcast` read the first, the deploy
/// hook in scripts/systemd reads the second.
const NO_OPTIONS: [&str; 2] = ["TOCSIN_KEY", "TOCSIN_CERT"];

/// Warns of each variable that begins with `TOCSIN_` but belongs to no option. This is only a
/// warning, because other programs may have such variables.
pub(super) fn unknown_variables(variables: impl Iterator<Item = String>) -> Vec<String> {
    let cli = Cli::command();
    let mut known: Vec<&str> = NO_OPTIONS.into();
    for command in std::iter::once(&cli).chain(cli.get_subcommands()) {
        known.extend(command.get_arguments().filter_map(|option| option.get_env()?.to_str()));
    }
    let mut unknown: Vec<String> = variables
        .filter(|name| name.starts_with(PREFIX) && !known.contains(&name.as_str()))
        .collect();
    unknown.sort();
    let warning = |name: &String| match nearest(name, &known) {
        Some(meant) => format!("{name} in the environment is no option: did you mean {meant}?"),
        None => format!("{name} in the environment is no option; `server --help` lists them"),
    };
    unknown.iter().map(warning).collect()
}

/// The known name that is closest to `name`, if at most a quarter of the letters differ, or one
/// letter.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let most = (name.len() / 4).max(1);
    // This distance counts two swapped neighbours as one difference.
    let near = known.iter().map(|&known| (strsim::osa_distance(name, known), known));
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::super::table::names_in_file;
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
            assert_eq!(nearest(name, &names_in_file()), meant, "{name}");
        }
    }

    #[test]
    fn variables_of_every_command_are_known() {
        let known =
            ["TOCSIN_LISTEN", "TOCSIN_URL", "TOCSIN_ID", "TOCSIN_KEY", "TOCSIN_CERT", "HOME"];
        assert!(unknown_variables(known.into_iter().map(str::to_owned)).is_empty());
        let unknown = ["TOCSIN_ZZZZZZ", "TOCSIN_PROTCET"].map(str::to_owned);
        let [first, second] = &unknown_variables(unknown.into_iter())[..] else { panic!() };
        assert!(first.ends_with("did you mean TOCSIN_PROTECT?"), "{first}");
        assert!(second.contains("TOCSIN_ZZZZZZ") && second.contains("--help"), "{second}");
    }
}
