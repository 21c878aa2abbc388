//! The process of a crowd: see [`tidegate_tests::crowd`]. The scenarios start it.

fn main() -> std::io::Result<()> {
    tidegate_tests::crowd::run(&std::env::args().collect::<Vec<_>>())
}
