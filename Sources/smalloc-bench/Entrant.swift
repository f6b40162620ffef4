// What takes its turn in the rounds of a point: a server, a client, a yardstick.

/// One of those that are compared at a point.
struct Entrant {
    /// What tables call it.
    let label: String
    /// What the reader must know of its figures, or empty.
    var note = ""
    /// Runs once, for so many seconds.
    let run: (Double) throws -> Sample
    /// Looks, after the last round, at whether what was done is right.
    var finish: () throws -> Void = {}
}
