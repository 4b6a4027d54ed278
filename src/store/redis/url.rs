//! Where the store is: one URL. Its password is shown nowhere, so no error quotes what it was made from.

use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
    str::FromStr,
};

use zeroize::Zeroizing;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where the store is, and who asks.
///
/// | form | what is there |
/// |---|---|
/// | `redis://[user[:password]@]host[:port][/db]` | one server |
/// | `redis+sentinel://[user[:password]@]host[:port],…/name[/db]` | the Sentinels that know the master of this name |
/// | `redis+cluster://[user[:password]@]host[:port],…` | some nodes of a cluster; they know the others |
/// | `redis+unix:///path/of/socket` | one server on this machine |
///
/// `rediss://`, `rediss+sentinel://` and `rediss+cluster://` are the same over TLS; `valkey` may stand for `redis`.
/// What may follow after `?`, joined by `&`:
///
/// | option | what it says |
/// |---|---|
/// | `prefix` | what the names of all keys begin with |
/// | `user`, `password_file` | who asks, and the file whose first line is the password; read anew at each connection |
/// | `db` | which database (of a socket) |
/// | `ca` | the certificates that sign the servers'; without it, those that this machine trusts |
/// | `cert`, `key` | the certificate that is shown to the servers, and its key |
/// | `sentinel_user`, `sentinel_password_file` | the same towards the Sentinels, which have users of their own |
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    pub(super) way: Way,
    pub(super) places: Vec<Place>,
    pub(super) tls: Option<TlsPaths>,
    pub(super) login: Login,
    pub(super) sentinel_login: Login,
    pub(super) db: u16,
    pub(super) prefix: Option<Box<str>>,
}

/// How the servers are found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// The server is named.
    Single,
    /// Sentinels are named; they know the master of this name.
    Sentinel(Box<str>),
    /// Nodes of a cluster are named.
    Cluster,
}

/// Where something listens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Place {
    Tcp(Box<str>, u16),
    Unix(PathBuf),
}

impl Place {
    /// Nobody on the network hears what is said there.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(host, _) => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The files of TLS.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct TlsPaths {
    pub(super) ca: Option<PathBuf>,
    pub(super) identity: Option<(PathBuf, PathBuf)>,
}

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<Box<str>>,
    pub(super) password: Option<Password>,
}

/// Where the password is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Password {
    Said(Zeroizing<String>),
    File(PathBuf),
}

/// Why a URL says no store. Nothing of the URL is quoted: its password might be in what is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// It begins with none of the schemes.
    #[error(
        "the URL of the store begins with none of redis://, rediss://, redis+sentinel://, rediss+sentinel://, \
         redis+cluster://, rediss+cluster://, redis+unix://"
    )]
    Scheme,
    /// A `#`, a space or a control character.
    #[error(
        "the URL of the store has a space, a control character or a `#` in it; write them as %20, %23 and so on, or put \
         the password into a file: ?password_file=PATH"
    )]
    Character,
    /// A `%` without two hexadecimal digits, or what comes out is not UTF-8.
    #[error("a % in the URL of the store is not followed by two hexadecimal digits of UTF-8; write a % itself as %25")]
    Escape,
    /// More than one `@`, or one after a `/`.
    #[error(
        "the URL of the store has an @ too many, or one after a /; write what belongs to the password as %40 and %2F"
    )]
    SeveralAts,
    /// No host, or an empty one between commas.
    #[error(
        "host {0} in the URL of the store is empty; write host, host:port or [IPv6]:port, several joined by commas"
    )]
    NoHost(usize),
    /// A host has characters that no host has.
    #[error("host {0} in the URL of the store is neither a name nor an address; an IPv6 address stands in [ ]")]
    Host(usize),
    /// Not a port.
    #[error(
        "host {0} in the URL of the store has a port that is not a number from 1 to 65535; write a : / ? or @ that belongs \
         to the password as %3A %2F %3F %40"
    )]
    Port(usize),
    /// Several hosts where there is one.
    #[error("several hosts are for redis+sentinel:// or redis+cluster://; redis:// has one")]
    SeveralHosts,
    /// The same host twice.
    #[error("host {0} in the URL of the store is there twice")]
    Twice(usize),
    /// Sentinels without a name.
    #[error("Sentinels are asked for a master by its name: redis+sentinel://host1,host2,host3/NAME")]
    NoName,
    /// Not a name of a master.
    #[error("the master's name may have letters, digits, dots, hyphens and underscores")]
    Name,
    /// Something after the host that has no place there.
    #[error(
        "the path of the store's URL is not what belongs there: redis://host/DB, redis+sentinel://hosts/NAME/DB, none for a cluster"
    )]
    Path,
    /// Not a number of a database.
    #[error("the database in the URL of the store is not a number from 0 to 65535")]
    Database,
    /// A cluster has no databases.
    #[error("a cluster has one database, 0; leave it out, and keep services apart by ?prefix=NAME:")]
    ClusterDatabase,
    /// A socket without a path.
    #[error("a socket is named by its whole path: redis+unix:///run/redis/redis.sock")]
    Socket,
    /// An option that does not exist.
    #[error(
        "after the ? in the URL of the store may stand prefix, user, password_file, db, ca, cert, key, sentinel_user and \
         sentinel_password_file, each as name=value, joined by &; there is something else"
    )]
    Option,
    /// An option twice, or something that is said before already.
    #[error("the URL of the store says {0} twice")]
    Again(&'static str),
    /// An option without a value.
    #[error("{0} in the URL of the store has no value")]
    Empty(&'static str),
    /// Files of TLS where there is none.
    #[error("{0} is for TLS; write rediss:// instead of redis://")]
    NoTls(&'static str),
    /// A certificate without a key, or the other way about.
    #[error("cert and key go together in the URL of the store, and one is missing")]
    HalfAnIdentity,
    /// Options of Sentinels where there are none.
    #[error("{0} is for redis+sentinel://")]
    NoSentinel(&'static str),
    /// A user without a password.
    #[error("the URL of the store names a user and no password; add ?password_file=PATH")]
    NoPassword,
    /// A prefix that would move keys to other slots, or that cannot be read.
    #[error("a prefix has 1 to 64 letters, digits and . : - _ /; braces would decide which slot a key is in")]
    Prefix,
}

impl StoreUrl {
    /// What the names of all keys begin with, if the URL says so.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref()
    }

    /// Whether the password itself is in the URL, where whoever sees the configuration sees it.
    #[must_use]
    pub fn has_password(&self) -> bool {
        [&self.login, &self.sentinel_login].iter().any(|login| matches!(login.password, Some(Password::Said(_))))
    }

    /// The same with the password from this file, whose first line it is. Read anew at each connection.
    #[must_use]
    pub fn with_password_file(mut self, path: &Path) -> Self {
        self.login.password = Some(Password::File(path.into()));
        self
    }

    fn scheme(&self) -> &'static str {
        match (&self.way, &self.places[..], &self.tls) {
            (_, [Place::Unix(_)], _) => "redis+unix",
            (Way::Single, _, None) => "redis",
            (Way::Single, _, Some(_)) => "rediss",
            (Way::Sentinel(_), _, None) => "redis+sentinel",
            (Way::Sentinel(_), _, Some(_)) => "rediss+sentinel",
            (Way::Cluster, _, None) => "redis+cluster",
            (Way::Cluster, _, Some(_)) => "rediss+cluster",
        }
    }
}

/// Without the password and without what stands after `?`.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        for (n, place) in self.places.iter().enumerate() {
            write!(f, "{}{place}", if n == 0 { "" } else { "," })?;
        }
        if let Way::Sentinel(name) = &self.way {
            write!(f, "/{name}")?;
        }
        if self.db != 0 { write!(f, "/{}", self.db) } else { Ok(()) }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if text.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'#') {
            return Err(StoreUrlError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(StoreUrlError::Scheme)?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (kind, tls) = kind(scheme)?;
        let mut url = match kind {
            Kind::Unix => Self::socket(rest)?,
            kind => Self::network(kind, tls, rest)?,
        };
        let mut options = Options::default();
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            options.take(pair)?;
        }
        options.apply(&mut url)?;
        match &url.login {
            Login { user: Some(_), password: None } => Err(StoreUrlError::NoPassword),
            _ => Ok(url),
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
    Unix,
}

fn kind(scheme: &str) -> Result<(Kind, bool), StoreUrlError> {
    let scheme = scheme.to_ascii_lowercase();
    let (base, way) = scheme.split_once('+').unwrap_or((&scheme, ""));
    let tls = match base {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err(StoreUrlError::Scheme),
    };
    match way {
        "" if scheme == base => Ok((Kind::Single, tls)),
        "sentinel" => Ok((Kind::Sentinel, tls)),
        "cluster" => Ok((Kind::Cluster, tls)),
        "unix" if !tls => Ok((Kind::Unix, false)),
        _ => Err(StoreUrlError::Scheme),
    }
}

impl StoreUrl {
    fn socket(rest: &str) -> Result<Self, StoreUrlError> {
        let path = unescape(rest)?;
        if !path.starts_with('/') || path.len() < 2 {
            return Err(StoreUrlError::Socket);
        }
        Ok(Self::at(Way::Single, vec![Place::Unix(path.into())], None, Login::default()))
    }

    fn network(kind: Kind, tls: bool, rest: &str) -> Result<Self, StoreUrlError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // A `/` in a password would end the authority before its `@`.
        if path.contains('@') || authority.matches('@').count() > 1 {
            return Err(StoreUrlError::SeveralAts);
        }
        let (who, hosts) = authority.split_once('@').map_or((None, authority), |(who, hosts)| (Some(who), hosts));
        let places = places(hosts, if kind == Kind::Sentinel { SENTINEL_PORT } else { PORT })?;
        if kind == Kind::Single && places.len() > 1 {
            return Err(StoreUrlError::SeveralHosts);
        }
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let way = match kind {
            Kind::Sentinel => Way::Sentinel(master_name(parts.next().ok_or(StoreUrlError::NoName)?)?),
            Kind::Cluster => Way::Cluster,
            Kind::Single | Kind::Unix => Way::Single,
        };
        let db = parts.next().map(|db| db.parse().map_err(|_| StoreUrlError::Database)).transpose()?;
        if parts.next().is_some() {
            return Err(StoreUrlError::Path);
        }
        if way == Way::Cluster && db.is_some_and(|db: u16| db != 0) {
            return Err(StoreUrlError::ClusterDatabase);
        }
        let mut url = Self::at(way, places, tls.then(TlsPaths::default), login(who)?);
        url.db = db.unwrap_or(0);
        Ok(url)
    }

    fn at(way: Way, places: Vec<Place>, tls: Option<TlsPaths>, login: Login) -> Self {
        Self { way, places, tls, login, sentinel_login: Login::default(), db: 0, prefix: None }
    }
}

fn login(who: Option<&str>) -> Result<Login, StoreUrlError> {
    let Some(who) = who else { return Ok(Login::default()) };
    let (user, password) = who.split_once(':').map_or((who, None), |(user, password)| (user, Some(password)));
    let user = unescape(user)?;
    let password = password.map(unescape).transpose()?.filter(|password| !password.is_empty());
    Ok(Login {
        user: (!user.is_empty()).then(|| user.into_boxed_str()),
        password: password.map(|password| Password::Said(Zeroizing::new(password))),
    })
}

fn places(hosts: &str, port: u16) -> Result<Vec<Place>, StoreUrlError> {
    let mut places = Vec::new();
    for (n, host) in hosts.split(',').enumerate() {
        let place = place(host, port, n + 1)?;
        if places.contains(&place) {
            return Err(StoreUrlError::Twice(n + 1));
        }
        places.push(place);
    }
    Ok(places)
}

fn place(text: &str, port: u16, n: usize) -> Result<Place, StoreUrlError> {
    let (host, given) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            host.parse::<Ipv6Addr>().map_err(|_| StoreUrlError::Host(n))?;
            let port = rest.strip_prefix(':');
            if port.is_none() && !rest.is_empty() {
                return Err(StoreUrlError::Host(n));
            }
            (host, port)
        }
        None => {
            let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
            (named(host, n)?, port)
        }
    };
    let port = match given {
        None => port,
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().ok().filter(|port| *port > 0).ok_or(StoreUrlError::Port(n))?
        }
        Some(_) => return Err(StoreUrlError::Port(n)),
    };
    Ok(Place::Tcp(host.into(), port))
}

fn named(host: &str, n: usize) -> Result<&str, StoreUrlError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    match host {
        "" => Err(StoreUrlError::NoHost(n)),
        host if host.len() <= 253 && host.bytes().all(fits) => Ok(host),
        _ => Err(StoreUrlError::Host(n)),
    }
}

fn master_name(text: &str) -> Result<Box<str>, StoreUrlError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if text.bytes().all(fits) { Ok(text.into()) } else { Err(StoreUrlError::Name) }
}

/// What stands after `?`.
#[derive(Default)]
struct Options([Option<String>; NAMES.len()]);

const NAMES: [&str; 9] =
    ["prefix", "user", "password_file", "db", "ca", "cert", "key", "sentinel_user", "sentinel_password_file"];

impl Options {
    fn take(&mut self, pair: &str) -> Result<(), StoreUrlError> {
        let (name, value) = pair.split_once('=').ok_or(StoreUrlError::Option)?;
        let place = NAMES.iter().position(|known| *known == name).ok_or(StoreUrlError::Option)?;
        let value = unescape(value)?;
        match self.0[place].replace(value) {
            Some(_) => Err(StoreUrlError::Again(NAMES[place])),
            None if self.0[place].as_deref() == Some("") => Err(StoreUrlError::Empty(NAMES[place])),
            None => Ok(()),
        }
    }

    fn apply(self, url: &mut StoreUrl) -> Result<(), StoreUrlError> {
        let [prefix, user, password_file, db, ca, cert, key, sentinel_user, sentinel_password_file] = self.0;
        url.prefix = prefix.map(|prefix| checked_prefix(&prefix)).transpose()?;
        once("the user", user.is_some() && url.login.user.is_some())?;
        once("the password", password_file.is_some() && url.login.password.is_some())?;
        once("the database", db.is_some() && url.db != 0)?;
        url.login.user = user.map(String::into_boxed_str).or(url.login.user.take());
        url.login.password = password_file.map(|path| Password::File(path.into())).or(url.login.password.take());
        if let Some(db) = db {
            url.db = db.parse().map_err(|_| StoreUrlError::Database)?;
        }
        if url.way == Way::Cluster && url.db != 0 {
            return Err(StoreUrlError::ClusterDatabase);
        }
        match &mut url.tls {
            Some(tls) => {
                tls.ca = ca.map(PathBuf::from);
                tls.identity = match (cert, key) {
                    (None, None) => None,
                    (Some(cert), Some(key)) => Some((cert.into(), key.into())),
                    _ => return Err(StoreUrlError::HalfAnIdentity),
                };
            }
            None => {
                for (name, given) in [("ca", &ca), ("cert", &cert), ("key", &key)] {
                    given.as_ref().map_or(Ok(()), |_| Err(StoreUrlError::NoTls(name)))?;
                }
            }
        }
        if !matches!(url.way, Way::Sentinel(_)) {
            for (name, given) in
                [("sentinel_user", &sentinel_user), ("sentinel_password_file", &sentinel_password_file)]
            {
                given.as_ref().map_or(Ok(()), |_| Err(StoreUrlError::NoSentinel(name)))?;
            }
        }
        let sentinel_password = sentinel_password_file.map(|path| Password::File(path.into()));
        if sentinel_user.is_some() && sentinel_password.is_none() {
            return Err(StoreUrlError::NoPassword);
        }
        url.sentinel_login = Login { user: sentinel_user.map(String::into_boxed_str), password: sentinel_password };
        Ok(())
    }
}

fn once(what: &'static str, again: bool) -> Result<(), StoreUrlError> {
    if again { Err(StoreUrlError::Again(what)) } else { Ok(()) }
}

/// A prefix decides no slot: the braces of a key are ours.
fn checked_prefix(prefix: &str) -> Result<Box<str>, StoreUrlError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'_' | b'/');
    if prefix.len() <= 64 && prefix.bytes().all(fits) { Ok(prefix.into()) } else { Err(StoreUrlError::Prefix) }
}

/// RFC 3986, section 2.1.
fn unescape(text: &str) -> Result<String, StoreUrlError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(StoreUrlError::Escape);
        out.push((digit()? << 4 | digit()?) as u8);
    }
    let text = String::from_utf8(out).map_err(|_| StoreUrlError::Escape)?;
    if text.contains(['\0', '\r', '\n']) { Err(StoreUrlError::Escape) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn each_form_says_where_the_store_is() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379"),
            ("valkey://LOCALHOST:7000/3", "redis://LOCALHOST:7000/3"),
            ("rediss://u:p@cache.example/0?ca=/etc/ca.pem", "rediss://cache.example:6379"),
            ("redis://[::1]:7000?prefix=a:", "redis://[::1]:7000"),
            ("redis+sentinel://a,b:1,[::1]/main/2", "redis+sentinel://a:26379,b:1,[::1]:26379/main/2"),
            ("rediss+cluster://a,b,c", "rediss+cluster://a:6379,b:6379,c:6379"),
            ("redis+unix:///run/r.sock?db=4", "redis+unix:///run/r.sock/4"),
        ] {
            assert_eq!(url(text).to_string(), shown);
        }
        let both = url("redis://me:a%40b%2f%3a@h");
        assert_eq!(both.login.user.as_deref(), Some("me"));
        assert!(both.login.password == Some(Password::Said(Zeroizing::new("a@b/:".into()))));
        assert!(url("redis://:x@h").login.user.is_none(), "a password alone is the default user's");
        assert!(url("redis://me@h?password_file=/p").login.password == Some(Password::File("/p".into())));
        let tls = url("rediss://h?ca=a&cert=b&key=c").tls.unwrap();
        assert_eq!((tls.ca, tls.identity), (Some("a".into()), Some(("b".into(), "c".into()))));
    }

    #[test]
    fn what_is_malformed_is_refused_with_a_reason_of_its_own() {
        use StoreUrlError as E;
        for (text, error) in [
            ("", E::Scheme),
            ("localhost:6379", E::Scheme),
            ("http://h", E::Scheme),
            ("redis+://h", E::Scheme),
            ("redis+sentinels://h/n", E::Scheme),
            ("rediss+unix:///s", E::Scheme),
            ("redis://", E::NoHost(1)),
            ("redis://u:p@", E::NoHost(1)),
            ("redis+cluster://a,,b", E::NoHost(2)),
            ("redis+cluster://a,b,a", E::Twice(3)),
            ("redis://a,b", E::SeveralHosts),
            ("redis://h:0", E::Port(1)),
            ("redis://h:65536", E::Port(1)),
            ("redis://h:+1", E::Port(1)),
            ("redis://h:", E::Port(1)),
            ("redis://::1", E::NoHost(1)),
            ("redis://[::1", E::Host(1)),
            ("redis://[::1]x", E::Host(1)),
            ("redis://[h]", E::Host(1)),
            ("redis://h%41", E::Host(1)),
            ("redis://u:p@x@h", E::SeveralAts),
            ("redis://u:p/x@h", E::SeveralAts),
            ("redis://u:%zz@h", E::Escape),
            ("redis://u:%@h", E::Escape),
            ("redis://u:%ff@h", E::Escape),
            ("redis://u:%0d%0a@h", E::Escape),
            ("redis://u:a b@h", E::Character),
            ("redis://u:a#b@h", E::Character),
            ("redis://u@h", E::NoPassword),
            ("redis://u:@h", E::NoPassword),
            ("redis://h/x", E::Database),
            ("redis://h/-1", E::Database),
            ("redis://h/1/2", E::Path),
            ("redis+cluster://h/1", E::ClusterDatabase),
            ("redis+cluster://h?db=1", E::ClusterDatabase),
            ("redis+sentinel://h", E::NoName),
            ("redis+sentinel://h/", E::NoName),
            ("redis+sentinel://h/a%20b", E::Name),
            ("redis+sentinel://h/n/1/2", E::Path),
            ("redis+unix://sock", E::Socket),
            ("redis+unix:///", E::Socket),
            ("redis://h?", E::Option),
            ("redis://h?password=x", E::Option),
            ("redis://h?prefix", E::Option),
            ("redis://h?prefix=", E::Empty("prefix")),
            ("redis://h?prefix=a&prefix=b", E::Again("prefix")),
            ("redis://h?prefix={a}", E::Prefix),
            ("redis://h?prefix=a%7b", E::Prefix),
            ("redis://h?ca=x", E::NoTls("ca")),
            ("rediss://h?cert=x", E::HalfAnIdentity),
            ("redis://h?sentinel_user=x", E::NoSentinel("sentinel_user")),
            ("redis://:p@h?password_file=x", E::Again("the password")),
            ("redis+sentinel://h/n?sentinel_user=x", E::NoPassword),
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_none_is_quoted(text in "[ -~]{0,40}", secret in "[a-zA-Z0-9:/?#@%&=]{8,20}") {
            for text in [
                text.clone(),
                format!("redis://{text}"),
                format!("redis+sentinel://u:{secret}@{text}/n"),
                format!("redis://u:{secret}@h{text}"),
                format!("rediss://h?{text}={secret}"),
            ] {
                match text.parse::<StoreUrl>() {
                    Ok(url) => {
                        let hidden = match url.login.password {
                            Some(Password::Said(ref password)) if password.len() > 7 => password.to_string(),
                            _ => continue,
                        };
                        let shown = format!("{url} {url:?} {:?}", url.login);
                        prop_assert!(!shown.contains(&hidden));
                    }
                    Err(error) => {
                        let shown = format!("{error} {error:?}");
                        prop_assert!(!shown.contains(&secret));
                    }
                }
            }
        }

        #[test]
        fn a_password_of_any_characters_comes_out_as_it_was(password in "\\PC{1,20}") {
            let escaped: String = password.bytes().map(|b| format!("%{b:02x}")).collect();
            let url: StoreUrl = format!("redis://u:{escaped}@h").parse().unwrap();
            prop_assert!(url.login.password == Some(Password::Said(Zeroizing::new(password))));
        }
    }
}
