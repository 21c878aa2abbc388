//! What is warned of, and what is refused about files before a client comes.
