//! `server check`: is the configuration good, and what does it come to?

use crate::cli::RunArgs;
use crate::client::print_line;
use crate::config::{Address, Config};
use crate::error::Error;
use crate::id::Tag;

/// Said where no pair has a key.
pub(crate) const OPEN: &str = "no key protects anything: everyone who can connect may send and \
     broadcast on every tag; see --protect";

/// Prints what a configuration comes to; no secret is among it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(args: RunArgs) -> Result<(), Vec<Error>> {
    let config = Config::resolve(args)?;
    let list = |items: Vec<String>| match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(" "),
    };
    let addresses = |addresses: &[Address]| {
        list(addresses.iter().map(|address| address.socket.to_string()).collect())
    };
    let tags = config.declared_tags.map(|tags| {
        let mut tags: Vec<String> = tags.iter().map(Tag::to_string).collect();
        tags.sort();
        list(tags)
    });
    let protected = config.auth.protected();
    let pairs = protected.iter().map(|(tag, action)| format!("{tag}:{}", action.name()));
    let open = if protected.is_empty() { format!("warning    {OPEN}\n") } else { String::new() };
    let lines = [
        format!("listen     {}", addresses(&config.listen)),
        format!("admin      {}", config.admin.map_or("off".into(), |admin| addresses(&[admin]))),
        format!("tags       {}", tags.unwrap_or_else(|| "any".into())),
        format!("protected  {}", list(pairs.collect())),
        format!("{open}The configuration is good."),
    ];
    Ok(print_line(&lines.join("\n"))?)
}
