// How a connection behaves: timeouts, reconnecting, sizes of bulk transfers.

internal import Glibc
internal import SmallocSystem
public import SmallocWire

extension Smalloc {
    /// How a connection behaves.
    ///
    /// The defaults suit a daemon on the same machine.
    public struct Options: Sendable {
        /// Time in which the connection must be made and the daemon must have greeted; 5 s by
        /// default.
        public var connectTimeout: Duration = .seconds(5)

        /// Time in which each request must be answered, nil for ever; 30 s by default.
        ///
        /// A bulk transfer is many requests (see `chunkSize`), each with its own time. Requests
        /// that make the daemon move a lot of memory by itself (alloc, copy, fill, dispose) get a
        /// second more for each GiB.
        public var requestTimeout: Duration? = .seconds(30)

        /// Whether a lost connection is made anew by the next call that doesn't depend on it.
        ///
        /// A request is never sent twice, and an `Allocation` belongs to the connection it was made
        /// or opened on: with that lost it throws `.connectionLost` for ever. A call that needs no
        /// allocation (alloc, open, list, stat by name, ping, ...) connects again if this is true.
        /// Named allocations are then opened again by name, by the program, which alone can know
        /// whether what it finds under the name is still what it meant.
        public var reconnects = true

        /// Bytes of one request of a bulk transfer, 4 MiB by default.
        ///
        /// Larger transfers are split.
        ///
        /// Lowered to the daemon's frame size limit where that is less.
        public var chunkSize = 4 << 20

        /// Requests of a bulk transfer that are under way at a time, 1 to 64; 3 by default.
        public var chunksInFlight = 3

        /// Whether reads and writes of much data at a time go by a mapping where they can, from the
        /// second one on an allocation on; true by default.
        ///
        /// They do on Unix sockets from 256 KiB on, while no other request of the connection is
        /// under way on the allocation; answers and errors are those of the socket. What goes by a
        /// mapping moves at the speed of memory, and is not atomic towards other requests, no part
        /// of it: what another client writes at the same time may show between any two elements.
        /// The allocation is given memory that can be shared for it, which costs copying it once.
        /// A fork of the process does not have such a mapping; those that `map` returns it has.
        ///
        /// Such a mapping for writing keeps a freeze that another connection asks for `.busy`,
        /// until the `Allocation` that was written to goes, or this connection asks for a freeze:
        /// turn it off where others freeze what is written here.
        public var mapsLargeTransfers = true

        /// Time for which a blocking call asks for its answer again and again before it sleeps;
        /// zero, not at all, by default.
        ///
        /// Waking a thread costs tens of microseconds on many machines, more than the daemon needs
        /// for a small request. While it waits so, a call keeps its processor busy to no purpose:
        /// worth it only where there is one to spare beside the daemon's, with some 50
        /// microseconds. Where the two share one it makes every call slower. `AsyncSmalloc` makes
        /// no use of it.
        public var busyPoll: Duration = .zero

        /// What the daemon is told about the program that connects: up to 64 bytes.
        public var software = "smalloc-swift"

        /// The defaults above.
        public init() {}
    }
}

extension Address {
    /// The address in `$SMALLOC_ADDRESS`, or else the place where a daemon listens by default.
    ///
    /// - Throws: `.cannotConnect` if `$SMALLOC_ADDRESS` is set and is no connection string.
    public static func found() throws(SmallocError) -> Address {
        if let text = environment("SMALLOC_ADDRESS"), !text.isEmpty {
            return try Address(connection: text)
        }
        return .standard(runtimeDirectory: environment("XDG_RUNTIME_DIR"))
    }

    /// Reads a connection string: `unix:PATH` or `tcp:HOST:PORT`, IPv6 in brackets.
    ///
    /// - Throws: `.cannotConnect`.
    public init(connection text: String) throws(SmallocError) {
        guard let address = Address(text) else {
            throw .cannotConnect(
                "\"\(text)\" is no connection string: unix:PATH or tcp:HOST:PORT expected")
        }
        self = address
    }
}

private func environment(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}

extension Duration {
    /// Whole nanoseconds, saturating; never negative.
    var nanosecondsClamped: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let whole = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        guard !whole.overflow, whole.partialValue < .max - 1_000_000_000 else { return .max }
        return whole.partialValue + UInt64(attoseconds) / 1_000_000_000
    }
}

/// A moment on the monotonic clock by which something must have happened; `.max` is never.
struct Deadline: Sendable {
    var nanoseconds: UInt64

    static var never: Deadline { Deadline(nanoseconds: .max) }

    static func after(_ interval: UInt64) -> Deadline {
        guard interval != .max else { return .never }
        let sum = Clock.now.addingReportingOverflow(interval)
        return sum.overflow ? .never : Deadline(nanoseconds: sum.partialValue)
    }

    /// The same by a clock that is some milliseconds coarse, and a third as dear.
    static func coarselyAfter(_ interval: UInt64) -> Deadline {
        guard interval != .max else { return .never }
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC_COARSE, &time)
        let now = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        let sum = now.addingReportingOverflow(interval)
        return sum.overflow ? .never : Deadline(nanoseconds: sum.partialValue)
    }

    /// Milliseconds left for `poll`, rounded up: -1 for ever, 0 if it has passed.
    var pollMilliseconds: Int32 {
        guard nanoseconds != .max else { return -1 }
        let now = Clock.now
        guard nanoseconds > now else { return 0 }
        return Int32(clamping: (nanoseconds - now + 999_999) / 1_000_000)
    }
}
