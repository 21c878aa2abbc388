# Short names for what contributors do often. `just` lists them.

features := "--locked --workspace --features tidegate/failpoints"

# Lists the recipes.
default:
    @just --list

# The whole chain with an embedded cloud and simulated sensors.
demo:
    cargo run --release -- demo

# Everything that is tested, or the steps that are named.
test *steps:
    tests/run {{steps}}

# Format, lints and the house rules.
check:
    cargo fmt --all --check
    cargo clippy {{features}} --lib --bins --examples --benches --test '*' -- -D warnings
    cargo test {{features}} --test architecture --test limits

# Unit tests of the gateway whose names contain a word.
unit word='':
    cargo test {{features}} -p tidegate --lib {{word}}

# One integration test or scenario, with its output.
scenario name:
    cargo build {{features}} --bin tidegate
    cargo test {{features}} --test {{name}} -- --nocapture

# Writes the generated pages anew.
docs:
    TIDEGATE_WRITE_DOCS=1 cargo test {{features}} --test generated_docs
    cargo doc --locked --workspace --no-deps

# All benchmarks beside their peers; about fifteen minutes.
bench:
    tests/run --bench
