//! Which corners of the code a sweep has reached. A simulation that is too kind proves nothing, so the sweep fails if
//! it misses one.

/// The corners of a simulation, by name.
macro_rules! corners {
    ($($name:ident)*) => {
        /// Something rare.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Corner { $($name),* }

        const ALL: &[Corner] = &[$(Corner::$name),*];

        /// How often each was reached.
        #[derive(Clone, Debug)]
        pub struct Corners {
            counts: [u64; ALL.len()],
        }

        impl Default for Corners {
            fn default() -> Corners {
                Corners { counts: [0; ALL.len()] }
            }
        }

        impl Corners {
            pub fn reach(&mut self, corner: Corner) {
                self.counts[corner as usize] += 1;
            }

            pub fn add(&mut self, other: &Corners) {
                for (count, more) in self.counts.iter_mut().zip(other.counts) {
                    *count += more;
                }
            }

            /// Those that were never reached.
            pub fn missed(&self) -> Vec<Corner> {
                ALL.iter().copied().filter(|&corner| self.counts[corner as usize] == 0).collect()
            }
        }

        impl std::fmt::Display for Corners {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                ALL.iter().try_for_each(|&corner| write!(f, "{corner:?} {} ", self.counts[corner as usize]))
            }
        }
    };
}
