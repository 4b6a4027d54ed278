//! As much of the shell's grammar as it takes to find our commands in a document's lines.

use std::iter::Peekable;

/// The words of one simple command.
pub type Words = Vec<String>;

/// All simple commands of a script, those in `$(…)` too. Quotes are taken off, variables become what
/// [`stand_in`] says.
pub fn commands(script: &str) -> Vec<Words> {
    let mut reader = Reader { chars: script.chars().peekable(), found: Vec::new(), documents: Vec::new() };
    reader.script();
    reader.found
}

/// The arguments of `rescind`, if that is what this command runs.
pub fn ours(words: &[String]) -> Option<&[String]> {
    let mut rest = words;
    loop {
        let (first, after) = rest.split_first()?;
        match first.as_str() {
            "rescind" => return Some(after),
            "sudo" | "exec" | "time" | "nohup" | "env" | "if" | "while" | "until" | "do" | "then" | "!" | "{" => {
                rest = after
            }
            // `sudo -u NAME`
            "-u" => rest = after.get(1..)?,
            _ if first.split_once('=').is_some_and(|(name, _)| is_name(name)) => rest = after,
            _ => return None,
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A value of the kind that a variable of this name holds.
fn stand_in(name: &str) -> &'static str {
    let holds = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    match name {
        _ if holds(&["SESSION", "TOKEN_ID", "JTI", "SID"]) => "01890a5d-ac96-774b-bcce-b302099a8057",
        _ if holds(&["ISSUER", "SERVER", "URL"]) => "https://issuer.example",
        _ if holds(&["KID", "KEY"]) => "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        _ if holds(&["SINCE", "BEFORE", "UNTIL"]) => "2026-01-31T12:00:00Z",
        // `"$@"`: as many as there are, here none.
        "@" | "*" => "",
        _ => "x",
    }
}

struct Reader<I: Iterator<Item = char>> {
    chars: Peekable<I>,
    found: Vec<Words>,
    /// Here-documents that begin after this line: their last lines.
    documents: Vec<String>,
}

impl<I: Iterator<Item = char>> Reader<I> {
    fn script(&mut self) {
        let mut words = Words::new();
        while let Some(&c) = self.chars.peek() {
            match c {
                '#' => while self.chars.next_if(|c| *c != '\n').is_some() {},
                '\n' => {
                    self.chars.next();
                    self.end(&mut words);
                    self.skip_documents();
                }
                ';' | '&' | '|' | '(' | ')' => {
                    self.chars.next();
                    self.end(&mut words);
                }
                '<' | '>' => self.redirection(),
                c if c.is_whitespace() => drop(self.chars.next()),
                _ => {
                    let word = self.word();
                    // `2>`: a number just before a redirection belongs to it.
                    let descriptor = word.chars().all(|c| c.is_ascii_digit());
                    let redirects = descriptor && self.chars.peek().is_some_and(|c| "<>".contains(*c));
                    if !word.is_empty() && !redirects {
                        words.push(word);
                    }
                }
            }
        }
        self.end(&mut words);
    }

    fn end(&mut self, words: &mut Words) {
        let words = std::mem::take(words);
        if !words.is_empty() {
            self.found.push(words);
        }
    }

    fn redirection(&mut self) {
        let mut sign = String::new();
        while let Some(c) = self.chars.next_if(|c| "<>&-".contains(*c)) {
            sign.push(c);
        }
        while self.chars.next_if(|c| *c == ' ').is_some() {}
        let word = self.word();
        if sign == "<<" {
            self.documents.push(word);
        }
    }

    fn skip_documents(&mut self) {
        for last in std::mem::take(&mut self.documents) {
            loop {
                let line: String = std::iter::from_fn(|| self.chars.next_if(|c| *c != '\n')).collect();
                if self.chars.next().is_none() || line == last {
                    break;
                }
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(&c) = self.chars.peek() {
            match c {
                c if c.is_whitespace() || ";&|()<>".contains(c) => break,
                '\'' => {
                    self.chars.next();
                    word.extend(std::iter::from_fn(|| self.chars.next().filter(|c| *c != '\'')));
                }
                '"' => {
                    self.chars.next();
                    self.quoted(&mut word);
                }
                _ => self.one(&mut word),
            }
        }
        word
    }

    fn quoted(&mut self, word: &mut String) {
        while let Some(&c) = self.chars.peek() {
            if c == '"' {
                self.chars.next();
                return;
            }
            self.one(word);
        }
    }

    /// One character, or what stands for several.
    fn one(&mut self, word: &mut String) {
        match self.chars.next() {
            Some('\\') => word.extend(self.chars.next().filter(|c| *c != '\n')),
            Some('$') => self.dollar(word),
            c => word.extend(c),
        }
    }

    fn dollar(&mut self, word: &mut String) {
        if self.chars.next_if_eq(&'(').is_some() {
            let inner = self.until_closed();
            self.found.extend(commands(&inner));
            word.push('x');
            return;
        }
        let braces = self.chars.next_if_eq(&'{').is_some();
        let name: String =
            std::iter::from_fn(|| self.chars.next_if(|c| c.is_ascii_alphanumeric() || "_!?#@*".contains(*c))).collect();
        if braces {
            while self.chars.next().is_some_and(|c| c != '}') {}
        }
        word.push_str(stand_in(&name));
    }

    /// The text up to the parenthesis that closes this one; those in quotes do not count.
    fn until_closed(&mut self) -> String {
        let (mut depth, mut quote, mut text) = (1, None, String::new());
        for c in self.chars.by_ref() {
            match (quote, c) {
                (Some(q), c) if q == c => quote = None,
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            text.push(c);
        }
        text
    }
}

#[test]
fn our_commands_are_found_in_a_script() {
    let script = r##"
        X=$(rescind session list --subject "alice b" | jq '.sessions[0]') # rescind not this
        sudo -u rescind rescind serve --config /etc/x.toml &
        cat > file <<'END'
rescind nor this
END
        echo 'rescind nor that' | rescind revoke --session "$SESSION" \
            --yes 2>&1; cd rescind
    "##;
    let found: Vec<String> = commands(script).iter().filter_map(|w| ours(w)).map(|args| args.join("|")).collect();
    assert_eq!(
        found,
        [
            "session|list|--subject|alice b",
            "serve|--config|/etc/x.toml",
            "revoke|--session|01890a5d-ac96-774b-bcce-b302099a8057|--yes",
        ]
    );
}
