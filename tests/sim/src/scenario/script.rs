//! `Script`: a scenario's text, taken apart and put together again.

/// One command, and what it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Remarks before it, and empty lines, as they stand there.
    pub before: Vec<String>,
    /// The command without its mark.
    pub command: String,
    /// What it printed; empty: nobody has looked at it yet.
    pub output: Vec<String>,
}

/// A scenario's text.
///
/// Invariant: a script without changes is rendered as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its first line.
    pub title: String,
    /// Which situation it is, and what must happen.
    pub about: Vec<String>,
    /// In order.
    pub steps: Vec<Step>,
}

/// Marks a command.
const COMMAND: &str = "> ";
/// Marks a remark.
const REMARK: &str = "-- ";

impl Script {
    /// Takes a text apart.
    ///
    /// # Errors
    /// What is missing or out of place, with its line.
    pub fn parse(text: &str) -> Result<Script, String> {
        let mut lines = text.lines().enumerate().peekable();
        let title = lines.next().map(|(_, line)| line.to_owned()).unwrap_or_default();
        if title.is_empty() || title.starts_with(COMMAND) {
            return Err("line 1: the first line is the title".to_owned());
        }
        let mut about = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.starts_with(COMMAND) && !line.starts_with(REMARK)) {
            about.push(line.to_owned());
        }
        // The empty lines before the first command stand with it.
        let words = about.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1);
        let mut before = about.split_off(words);
        if about.iter().all(String::is_empty) {
            return Err("line 3: a paragraph says which situation it is and what must happen".to_owned());
        }
        let mut steps: Vec<Step> = Vec::new();
        for (number, line) in lines {
            match line.strip_prefix(COMMAND) {
                Some(command) => {
                    let before = std::mem::take(&mut before);
                    steps.push(Step { before, command: command.trim().to_owned(), output: Vec::new() });
                }
                None if line.is_empty() || line.starts_with(REMARK) => before.push(line.to_owned()),
                None if !before.is_empty() || steps.is_empty() => {
                    return Err(format!("line {}: output stands right behind its command: {line}", number + 1));
                }
                None => steps.last_mut().expect("just looked").output.push(line.to_owned()),
            }
        }
        if steps.is_empty() {
            return Err("there is no command".to_owned());
        }
        Ok(Script { title, about, steps })
    }

    /// Puts it together.
    pub fn render(&self) -> String {
        let mut lines = vec![self.title.clone()];
        lines.extend(self.about.iter().cloned());
        for step in &self.steps {
            lines.extend(step.before.iter().cloned());
            lines.push(format!("{COMMAND}{}", step.command));
            lines.extend(step.output.iter().cloned());
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "A title\n\nWhat it is.\nAnd more.\n\n> nodes 3\nsaid\nmore\n\n-- A remark.\n> tick 1\n> check x\nok\n";

    #[test]
    fn a_script_is_rendered_as_it_was_read() {
        let script = Script::parse(TEXT).expect("a script");
        assert_eq!(script.render(), TEXT);
        assert_eq!(script.steps.len(), 3);
        assert_eq!(script.steps[0].output, ["said", "more"]);
        assert_eq!(script.steps[1].before, ["", "-- A remark."]);
        assert!(script.steps[1].output.is_empty());
    }

    #[test]
    fn a_script_out_of_form_is_refused() {
        for (text, part) in [
            ("", "title"),
            ("> tick 1\n", "title"),
            ("Title\n\n> tick 1\n", "paragraph"),
            ("Title\n\nAbout.\n", "no command"),
            ("Title\n\nAbout.\n\n> tick 1\n\nlate output\n", "line 7"),
        ] {
            let error = Script::parse(text).expect_err(text);
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
