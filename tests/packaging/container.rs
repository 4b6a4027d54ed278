//! The container image: its recipe is read, and what it would hold is run in a root with nothing else. There is no engine
//! on the machines that test this, so the recipe itself is not carried out.

use std::{fs, path::Path};

use super::support::{command, good, here, text};

const RECIPE: &str = "deploy/docker/Dockerfile";

#[test]
fn the_recipe_satisfies_its_linter() {
    let ours = here("target/tools/hadolint/bin/hadolint");
    let linter = if ours.exists() { ours.to_str().unwrap().to_owned() } else { "hadolint".to_owned() };
    good(command(linter).args(["--failure-threshold", "info", RECIPE]));
}

#[test]
fn the_image_has_no_root_no_shell_and_stops_when_told() {
    let recipe = text(RECIPE);
    let last = recipe.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n"), "nothing but the program: {last}");
    let of =
        |instruction: &str| last.lines().find_map(|line| line.strip_prefix(instruction)).unwrap_or_default().trim();
    // By number: who runs it can check that it is not root without looking inside.
    assert_eq!(of("USER "), "65532:65532");
    assert_eq!(of("STOPSIGNAL "), "SIGTERM");
    for instruction in ["ENTRYPOINT ", "CMD ", "HEALTHCHECK "] {
        let form = of(instruction);
        let form = form.rsplit_once("CMD ").map_or(form, |(_, form)| form);
        assert!(form.starts_with('[') && !form.contains("/sh"), "{instruction}: there is no shell: {form}");
    }
    assert!(!recipe.contains("\nADD "), "what comes in is copied, never fetched or unpacked");
    let release = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(recipe.contains(&release), "compiled by the release that Cargo.toml states");
}

/// Whatever lies about in a work tree (keys, stores, history) stays out of the build.
#[test]
fn the_build_sees_the_sources_and_nothing_else() {
    let list = text("deploy/docker/Dockerfile.dockerignore");
    let mut lines = list.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "everything is left out");
    let allowed: Vec<&str> = lines.map(|line| line.strip_prefix('!').expect("and some let in again")).collect();
    let copied = text(RECIPE);
    for path in &allowed {
        assert!(here(path).exists(), "{path} is not there");
    }
    for needed in ["Cargo.toml", "Cargo.lock", "src", ".cargo", "benches", "examples", "deploy/docker"] {
        assert!(allowed.contains(&needed), "cargo or the recipe reads {needed}");
    }
    assert!(copied.contains("--locked") && copied.contains("deploy/docker/static.toml"), "{copied}");
}

/// As the image would have it: another root, read-only but for the state, and a user without a name in any directory.
#[test]
fn without_its_c_library_it_runs_in_an_empty_root() {
    let host = good(command("rustc").args(["--print", "host-tuple"])).trim().to_owned();
    let build =
        ["build", "--quiet", "--locked", "--bin", "rescind", "--config", "deploy/docker/static.toml", "--target"];
    good(command("cargo").args(build).arg(&host).args(["--target-dir", "target/static"]));
    let program = here("target/static").join(host).join("debug/rescind");
    let dir = tempfile::Builder::new().prefix("rescind-image-").tempdir().unwrap();
    lay_out(dir.path(), &program);
    let run = command("unshare")
        .args(["--mount", "--pid", "--fork", "--net", "--kill-child", "bash", "-euc", STORY, "story"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

fn lay_out(root: &Path, program: &Path) {
    for dir in ["usr/bin", "etc", "var/lib/rescind"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy(program, root.join("usr/bin/rescind")).unwrap();
    for file in ["passwd", "group", "nsswitch.conf"] {
        fs::copy(here("deploy/docker").join(file), root.join("etc").join(file)).unwrap();
    }
    // An engine puts it there. There are no devices: random numbers come from the kernel itself.
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
}

/// Starts it, asks it as the health check does, and has a sidecar find it by a name.
const STORY: &str = r#"
root=$1
ip link set lo up
mount --bind "$root" "$root"
mount -t tmpfs -o mode=700,uid=65532,gid=65532 none "$root/var/lib/rescind"
mount -o remount,bind,ro "$root"
in_image=(chroot --userspec=65532:65532 --groups= "$root" /usr/bin/rescind)
run() { "${in_image[@]}" "$@"; }
run init /var/lib/rescind --issuer http://localhost:8080
# Not by the function: that would be a shell, which does not pass the signal on.
"${in_image[@]}" serve --config /var/lib/rescind/rescind.toml & serve=$!
for _ in $(seq 200); do run probe 2>/dev/null && break; sleep 0.05; done
run probe
run verifier --issuer http://localhost:8080 --audience api --listen 127.0.0.1:8081 --operations-listen 127.0.0.1:9081 &
for _ in $(seq 200); do run probe http://127.0.0.1:9081/readyz 2>/dev/null && break; sleep 0.05; done
run probe http://127.0.0.1:9081/readyz
kill -TERM $serve
wait $serve
"#;
