//! What a supervisor does about its children, and what becomes of a mailbox whose actor dies; told by what is counted.

mod children;
mod mailbox;
mod stage;
mod supervisor;
