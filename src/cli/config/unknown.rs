//! Turns what TOML and serde say about a configuration into a place and a remedy.

/// `line 3: unknown key ..`: where it is, what is wrong with it, and what was probably meant.
pub(super) fn explain(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map(|span| &text[..span.start.min(text.len())]);
    let place = at.map(|before| (before.matches('\n').count() + 1, section(before)));
    let what = mistyped(error.message(), place.as_ref().map(|(_, section)| &**section));
    match place {
        Some((line, _)) => format!("line {line}: {what}"),
        None => what,
    }
}

/// The last table header of a text, as it is written.
fn section(before: &str) -> String {
    let headers = before.lines().map(str::trim).filter(|l| l.starts_with('['));
    headers
        .last()
        .map_or("at the top of the file".into(), |h| format!("in {}", h.split('#').next().unwrap_or(h).trim_end()))
}

/// Serde names an unknown key and all known ones between backticks; the nearest of them is what was meant.
fn mistyped(message: &str, section: Option<&str>) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else { return message.to_owned() };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else { return message.to_owned() };
    let known: Vec<&str> = names.collect();
    let nearest = known.iter().max_by(|a, b| {
        let near = |k: &str| strsim::jaro_winkler(unknown, k);
        near(a).total_cmp(&near(b))
    });
    let place = section.map(|s| format!(" {s}")).unwrap_or_default();
    match nearest {
        Some(nearest) if strsim::jaro_winkler(unknown, nearest) > 0.7 => {
            format!("unknown key `{unknown}`{place}; did you mean `{nearest}`?")
        }
        _ => format!("unknown key `{unknown}`{place}; known are {}", known.join(", ")),
    }
}
