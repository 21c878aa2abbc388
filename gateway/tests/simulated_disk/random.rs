//! Chance from a seed: splitmix64, and how much of what was not synced outlives a power cut.

/// Numbers that follow from a seed.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..limit`; `limit` is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "there is nothing below 0");
        ((u128::from(self.draw()) * u128::from(limit)) >> 64) as u64
    }

    pub fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// How much of what was not synced is on the disk after a cut. Each piece is decided for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// The disk holds what was synced and no byte more.
    Nothing,
    /// One piece of 16.
    Few,
    /// One of two.
    Half,
    /// 15 of 16.
    Most,
    /// All of it, in the order in which it was done: as after SIGKILL.
    Everything,
}

impl Survival {
    pub const ALL: [Survival; 5] =
        [Survival::Nothing, Survival::Few, Survival::Half, Survival::Most, Survival::Everything];

    pub fn pick(random: &mut Random) -> Self {
        Self::ALL[random.below(Self::ALL.len() as u64) as usize]
    }

    /// Whether one more piece survives.
    pub fn spares(self, random: &mut Random) -> bool {
        let of_16 = match self {
            Survival::Nothing => return false,
            Survival::Everything => return true,
            Survival::Few => 1,
            Survival::Half => 8,
            Survival::Most => 15,
        };
        random.below(16) < of_16
    }
}

/// Which of several survivors is the last to reach the disk: any of them, or the newest one where
/// all survive.
#[derive(Debug, Clone, Copy)]
pub struct Winner<T> {
    pub value: T,
    survivors: u64,
}

impl<T> Winner<T> {
    pub fn first(value: T) -> Self {
        Self { value, survivors: 1 }
    }

    /// One more survivor, newer than those so far.
    pub fn join(&mut self, value: T, survival: Survival, random: &mut Random) {
        self.survivors += 1;
        if survival == Survival::Everything || random.below(self.survivors) == 0 {
            self.value = value;
        }
    }
}
