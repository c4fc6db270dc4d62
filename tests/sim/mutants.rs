//! The table of faults (`mutants.txt`) quotes the code that is there: `scripts/mutate.sh` could not try the others.

use std::path::Path;

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn each_fault_of_the_table_is_one_of_the_code_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table: Vec<&str> = include_str!("mutants.txt").split("\n\n").filter(|fault| fault.starts_with("# ")).collect();
    assert!(table.len() > 100, "{} faults", table.len());
    let is_stale = |fault: &&&str| {
        let file = fault.lines().nth(1).unwrap();
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let quoted: Vec<&str> = fault.lines().filter_map(|line| line.strip_prefix('-')).collect();
        assert!(!quoted.is_empty(), "{fault}: it quotes nothing");
        !words(&source).contains(&words(&quoted.join(" ")))
    };
    let stale: Vec<&str> = table.iter().filter(is_stale).map(|fault| fault.lines().next().unwrap()).collect();
    assert!(stale.is_empty(), "not to be found in their files any more: {stale:#?}");
}
