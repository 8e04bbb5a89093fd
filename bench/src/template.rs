//! Texts with names in braces, which stand for values.

/// Replaces each `{name}` by its value. Other braces stay.
pub(crate) fn fill(template: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}
