//! As much of Markdown as our documents use: fenced blocks, code spans, links, headings.

#![allow(dead_code, reason = "a helper of several tests; each uses a part")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A document of this repository.
pub struct Document {
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block.
pub struct Block {
    pub language: String,
    /// Under which heading.
    pub heading: String,
    pub text: String,
    /// Where it begins, for messages.
    pub line: usize,
}

/// The top of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every `*.md` that is ours.
pub fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort();
    assert!(found.len() > 5, "the documents were not found in {}", root().display());
    found.into_iter().map(|path| Document { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

/// Not ours: what is built, what was installed for tests, what is hidden. In `src` lie parts of documents.
fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let foreign = name.starts_with('.') || ["target", "node_modules", "venv", "src"].contains(&&*name);
        if entry.file_type().unwrap().is_dir() && !foreign {
            collect(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

impl Document {
    /// Its path as people write it.
    pub fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    /// The fenced blocks, in order. One in a list is indented; its lines are not.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut heading, mut open) = (String::new(), None);
        for (at, line) in self.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match (line.trim_start().strip_prefix("```"), open) {
                (Some(_), Some(_)) => open = None,
                (Some(language), None) => {
                    open = Some(indent);
                    let (language, heading) = (language.trim().into(), heading.clone());
                    blocks.push(Block { language, heading, text: String::new(), line: at + 1 });
                }
                (None, Some(outer)) => {
                    let block = blocks.last_mut().unwrap();
                    block.text += &line[outer.min(indent)..];
                    block.text.push('\n');
                }
                (None, None) if line.starts_with('#') => heading = line.trim_start_matches('#').trim().to_owned(),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fenced block has no end", self.name());
        blocks
    }

    /// What stands outside of fenced blocks.
    pub fn prose(&self) -> String {
        let mut inside = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if !inside {
                prose += line;
                prose.push('\n');
            }
        }
        prose
    }

    /// The code spans of its prose.
    pub fn spans(&self) -> Vec<String> {
        self.prose().split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
    }

    /// Where the links of its prose lead.
    pub fn links(&self) -> Vec<String> {
        let prose = self.prose();
        // What stands in a code span is no link.
        let plain: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("code");
        plain.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
    }

    /// What can be linked to in it: headings, as they are turned into anchors.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose();
        headings.lines().filter_map(|line| Some(anchor(line.strip_prefix('#')?.trim_start_matches('#')))).collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}
