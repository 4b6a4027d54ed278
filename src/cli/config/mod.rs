//! The configuration of `serve`: four layers, read strictly, checked as a whole, every message with its place and its
//! remedy. A setting is declared in `tables.rs` and nowhere else.

use std::path::{Path, PathBuf};

use self::{
    edge::{CorsTable, OperationsTlsTable, ProxiesTable, RatesTable, TlsTable},
    evidence::{AlertsTable, AuditTable, WebhookTable},
    layers::{Declared, Origin, Problem, Tree, failure},
    schema::{Shown, dotted, sections},
    tables::Top,
};
use super::Failure;

mod check;
mod edge;
mod effective;
mod environment;
mod evidence;
mod file;
pub(crate) mod layers;
mod preset;
#[cfg(test)]
mod reference;
pub(crate) mod schema;
pub(crate) mod secret;
mod tables;
pub(crate) mod template;
mod values;

pub(crate) use self::evidence::Evidence;
pub(crate) use self::tables::{ClientTable, KeysTable, LifetimesTable, LimitsTable, SessionsTable, StoreTable};
pub(crate) use self::values::OnDisabled;

sections! {
    /// A configuration, whatever layers it came from.
    pub(crate) struct Config {
        store: StoreTable,
        keys: KeysTable,
        lifetimes: LifetimesTable,
        sessions: SessionsTable,
        limits: LimitsTable,
        tls: TlsTable,
        operations_tls: OperationsTlsTable,
        proxies: ProxiesTable,
        rates: RatesTable,
        cors: CorsTable,
        audit: AuditTable,
        webhook: WebhookTable,
        alerts: AlertsTable,
    }
}

/// Which configuration.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Chosen {
    /// The configuration, in TOML. Variables RESCIND_SECTION__KEY cover what it says, and the options here cover both.
    #[arg(long, value_name = "FILE", env = "RESCIND_CONFIG", default_value = "/etc/rescind/rescind.toml")]
    pub(crate) config: PathBuf,
    /// Covers `issuer`.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Covers `listen`.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Covers `operations_listen`.
    #[arg(long, value_name = "ADDRESS")]
    operations_listen: Option<String>,
    /// A file with the passphrase of the keys; covers `keys.passphrase_file`.
    #[arg(long, value_name = "FILE")]
    keys_passphrase_file: Option<PathBuf>,
    /// Covers any other setting that is no secret; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

/// A configuration, with where each of its values was said.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) tree: Tree,
}

impl Config {
    /// A file and the environment, without flags.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Chosen::only(path).load().map(|loaded| loaded.config).map_err(|problems| failure(&problems))
    }

    /// What a text says, as if it were in that file and nothing else said anything.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, Failure> {
        let mut problems = Vec::new();
        let layer = file::Text { path: file.to_owned(), text: text.to_owned() }.layer(&mut problems);
        Loaded::stack(file, [layer], problems).map(|loaded| loaded.config).map_err(|problems| failure(&problems))
    }
}

impl Chosen {
    /// This file, and no flags.
    pub(crate) fn only(path: &Path) -> Self {
        let config = path.to_owned();
        Self {
            config,
            issuer: None,
            listen: None,
            operations_listen: None,
            keys_passphrase_file: None,
            set: Vec::new(),
        }
    }

    /// Reads and checks all layers; tells all that is wrong at once.
    pub(crate) fn load(&self) -> Result<Loaded, Vec<Problem>> {
        let mut problems = Vec::new();
        let file =
            file::Text::read(&self.config, Problem::reading).map_err(|problem| vec![problem])?.layer(&mut problems);
        let environment = environment::of_environment(&mut problems);
        let flags = self.flags(&mut problems);
        Loaded::stack(&self.config, [file, environment::of_credentials(), environment, flags], problems)
    }

    fn flags(&self, problems: &mut Vec<Problem>) -> Tree {
        let flags = [
            ("--issuer", "issuer", &self.issuer),
            ("--listen", "listen", &self.listen),
            ("--operations-listen", "operations_listen", &self.operations_listen),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(flag, name, text)| text.as_ref().map(|text| environment::of_flag(flag, name, text)));
        let mut tree = Tree::default();
        for said in self.set.iter().map(|text| environment::of_assignment(text)).chain(flags) {
            match said {
                Ok((name, leaf)) => drop(tree.leaves.insert(name, leaf)),
                Err(problem) => problems.push(problem),
            }
        }
        if let Some(path) = &self.keys_passphrase_file {
            let origin = Origin::Flag { name: "--keys-passphrase-file".into() };
            let value = format!("file {}", path.display()).into();
            tree.leaves.insert("keys.passphrase".into(), layers::Leaf { value, origin });
        }
        tree
    }
}

impl Loaded {
    /// Puts layers on top of each other and checks what comes out, unless there are mistakes already: what follows from
    /// them would only distract.
    fn stack(
        file: &Path,
        layers: impl IntoIterator<Item = Tree>,
        mut problems: Vec<Problem>,
    ) -> Result<Self, Vec<Problem>> {
        let mut tree = Tree::defaults(Config::SECTIONS);
        for layer in layers {
            tree.cover(layer);
        }
        read_clients_file(&mut tree, &mut problems);
        if let Some(preset) = preset::asked(&tree) {
            preset.apply(&mut tree, &mut problems);
        }
        if problems.is_empty() {
            find_missing(file, &tree, &mut problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let clients = tree.clients.iter().map(Declared::table).collect();
        let config = Config::assemble(|section| tree.table(section), clients)
            .map_err(|e| vec![Problem::of(e.message().to_owned())])?;
        config.check(&tree, &mut problems);
        if problems.is_empty() { Ok(Self { config, tree }) } else { Err(problems) }
    }
}

fn read_clients_file(tree: &mut Tree, problems: &mut Vec<Problem>) {
    let Some(leaf) = tree.leaves.get("clients_file") else { return };
    let Some(path) = leaf.value.as_str() else { return };
    match file::Text::read(Path::new(path), Problem::unreadable) {
        Ok(text) => {
            let clients = text.clients(problems);
            tree.cover(clients);
        }
        Err(problem) => problems.push(Problem { at: Some(leaf.origin.to_string()), ..problem.about("clients_file") }),
    }
}

/// What nobody said and somebody must.
fn find_missing(file: &Path, tree: &Tree, problems: &mut Vec<Problem>) {
    for section in Config::SECTIONS {
        for key in section.keys {
            let name = dotted(section.name, key.name);
            let Shown::Required { example } = key.traits.shown else { continue };
            if !tree.leaves.contains_key(&name) {
                let variable = environment::variable(section.name, key.name);
                let place = if section.name.is_empty() { String::new() } else { format!(" in [{}]", section.name) };
                problems.push(Problem::at(
                    file.display(),
                    format!("missing key `{name}`: write {} = {example}{place}, or set {variable}", key.name),
                ));
            }
        }
    }
}
