//! Turns what TOML and serde say about a configuration into a place and a remedy.

/// `line 3: unknown key ..`: where it is, what is wrong with it, and what was probably meant.
pub(super) fn explain(text: &str, error: &toml::de::Error) -> String {
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return mend(error.message(), "") };
    let line = before.matches('\n').count();
    let section = section(text, line);
    format!("line {}: {}", line + 1, mend(error.message(), &section))
}

/// Which table a line belongs to, if it belongs to one. The header of a table stands for itself.
fn section(text: &str, line: usize) -> String {
    let lines: Vec<&str> = text.lines().take(line + 1).map(str::trim).collect();
    let header = lines.iter().rposition(|l| l.starts_with('['));
    match header {
        Some(at) if at < line => format!(" in {}", lines[at].split('#').next().unwrap_or_default().trim_end()),
        _ => String::new(),
    }
}

/// Serde names an unknown key and all known ones between backticks; the nearest of them is what was meant.
fn mend(message: &str, section: &str) -> String {
    if let Some(rest) = message.strip_prefix("missing field ") {
        return format!("missing key {rest}{section}");
    }
    let Some(rest) = message.strip_prefix("unknown field ") else { return message.to_owned() };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return message.to_owned() };
    let known: Vec<&str> = names.collect();
    let near = |known: &str| strsim::jaro_winkler(unknown, known);
    let nearest = known.iter().copied().max_by(|a, b| near(a).total_cmp(&near(b)));
    match nearest.filter(|n| near(n) > 0.7) {
        Some(nearest) => format!("unknown key `{unknown}`{section}; did you mean `{nearest}`?"),
        None => format!("unknown key `{unknown}`{section}; known are {}", known.join(", ")),
    }
}
