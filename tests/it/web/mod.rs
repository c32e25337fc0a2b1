//! The HTTP side as clients meet it: kind ones, slow ones and hostile ones.
//!
//! No verdict depends on how fast the machine is: a limit under test is either short and waited for, or too long to matter.

mod addresses;
mod answers;
mod endurance;
mod harness;
mod life;
mod limits;
