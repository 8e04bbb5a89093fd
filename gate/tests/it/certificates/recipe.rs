//! Reads the recipes of PEM files. `tests/fixtures/pem/README.md` explains their format.

#[derive(Debug)]
pub(super) struct Recipe {
    /// The kind of key, such as `p256`.
    pub(super) key: String,
    /// The names of the files, each with its parts.
    files: Vec<(String, Vec<String>)>,
    /// The parts of one file, to be tested in every order. Used instead of `files`.
    any_order: Vec<String>,
    pub(super) mode: u32,
    pub(super) expected: Expected,
    pub(super) warnings: usize,
    pub(super) says: Vec<String>,
    /// Whether clients do not know the root.
    pub(super) private: bool,
}

#[derive(Debug)]
pub(super) enum Expected {
    Chain(Vec<String>),
    Exit(i32),
}

impl Recipe {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut this = Self {
            key: "p256".to_owned(),
            files: Vec::new(),
            any_order: Vec::new(),
            mode: 0o600,
            expected: Expected::Exit(i32::MIN),
            warnings: 0,
            says: Vec::new(),
            private: false,
        };
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (what, value) = line.split_once(": ").ok_or(format!("what is {line:?}?"))?;
            let words = || value.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            let number = |radix| {
                i32::from_str_radix(value, radix).map_err(|error| format!("{line:?}: {error}"))
            };
            match what {
                "key" => this.key = value.to_owned(),
                "any-order" => this.any_order = words(),
                "mode" => this.mode = number(8)?.cast_unsigned(),
                "chain" => this.expected = Expected::Chain(words()),
                "exit" => this.expected = Expected::Exit(number(10)?),
                "says" => this.says.push(value.to_owned()),
                "warns" => {
                    this.warnings += 1;
                    this.says.push(value.to_owned());
                }
                "private" => this.private = value == "yes",
                file if file.ends_with(".pem") => this.files.push((file.to_owned(), words())),
                _ => return Err(format!("what is {line:?}?")),
            }
        }
        match this.expected {
            Expected::Exit(i32::MIN) => Err("it expects nothing: add chain or exit".to_owned()),
            _ => Ok(this),
        }
    }

    /// Every set of files that this recipe stands for.
    pub(super) fn orders(&self) -> Vec<Vec<(String, Vec<String>)>> {
        if self.any_order.is_empty() {
            return if self.files.is_empty() { Vec::new() } else { vec![self.files.clone()] };
        }
        assert!(self.files.is_empty(), "either files or any-order");
        permutations(&self.any_order)
            .into_iter()
            .map(|parts| vec![("cert.pem".to_owned(), parts)])
            .collect()
    }
}

fn permutations(items: &[String]) -> Vec<Vec<String>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let with_first = |first: usize| {
        let mut others = items.to_vec();
        let first = others.remove(first);
        permutations(&others).into_iter().map(move |mut rest| {
            rest.insert(0, first.clone());
            rest
        })
    };
    (0..items.len()).flat_map(with_first).collect()
}

#[test]
fn a_recipe_that_is_not_understood_is_a_fault() {
    assert!(Recipe::parse("cert.pem: leaf key\nchian: leaf").is_err());
    assert!(Recipe::parse("cert.pem: leaf key").is_err());
    assert_eq!(Recipe::parse("any-order: a b c\nchain: a").unwrap().orders().len(), 6);
}
