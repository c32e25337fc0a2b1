//! A bounded run of the fuzz targets' properties, on seeds and on what a simple, seeded mutation makes of them.
//!
//! `PROPERTY_RUNS` sets how many inputs each gets; `fuzz/README.md` tells how to search on for longer and more cleverly.

#[path = "../../fuzz/properties.rs"]
mod shared;

use shared::ALL;

const RUNS: u64 = 20_000;

/// SplitMix64: enough to be different each time and the same for one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("it is less than a usize")
    }
}

/// Pieces that mean something to one of the parsers.
const WORDS: &[&str] = &[
    "null",
    "\"\"",
    "0",
    "-1",
    "340282366920938463463374607431768211456",
    "1e999",
    "[]",
    "{}",
    "\"",
    "\\u0000",
    "\\ud800",
    "\n",
    "/",
    "Z",
    "+23:59",
    ".",
    "é",
    "\u{202e}",
    "=",
    "--\n",
    "9999",
    "ms",
    "\r\n",
];

fn mutated(seeds: &[&str], random: &mut Random) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].as_bytes().to_vec();
    for _ in 0..random.below(5) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.insert(at, u8::try_from(random.below(256)).expect("it is below 256")),
            3 => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
            4 => drop(bytes.splice(at..at, WORDS[random.below(WORDS.len())].bytes())),
            _ => {
                let other = seeds[random.below(seeds.len())].as_bytes();
                let from = random.below(other.len());
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    bytes
}

#[test]
fn they_hold_for_seeds_and_what_mutation_makes_of_them() {
    let runs = std::env::var("PROPERTY_RUNS").map_or(RUNS, |runs| runs.parse().expect("PROPERTY_RUNS is a number"));
    for property in ALL {
        for seed in property.seeds {
            (property.holds)(seed.as_bytes());
        }
        for run in 0..runs {
            let input = mutated(property.seeds, &mut Random(run));
            let held = std::panic::catch_unwind(|| (property.holds)(&input));
            assert!(held.is_ok(), "{}, run {run}: {:?}", property.name, String::from_utf8_lossy(&input));
        }
    }
}
