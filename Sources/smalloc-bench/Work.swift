/// What a job consists of.
///
/// Sizes are in bytes.
enum Work {
    case ping
    case read(Int)
    case write(Int)
    /// Make an allocation of zeros and dispose of it.
    case allocDispose(Int)
    /// Make an allocation, write it whole, dispose of it.
    case allocWriteDispose(Int)
    /// Fill with one byte, which only smallocd can.
    case fill(Int)
    /// Copy inside the server.
    case copy(Int)
    /// Change one element, which only smallocd does so.
    case atomic(Int)

    var size: Int {
        switch self {
        case .ping: 0
        case .read(let size), .write(let size), .allocDispose(let size),
            .allocWriteDispose(let size), .fill(let size), .copy(let size),
            .atomic(let size):
            size
        }
    }

    var isRead: Bool { if case .read = self { true } else { false } }

    var unit: Unit {
        switch self {
        case .ping, .atomic: .operations
        case .read(let size), .write(let size): size >= 64 << 10 ? .megabytes : .operations
        case .fill, .copy: .megabytes
        case .allocDispose, .allocWriteDispose: .jobs
        }
    }

    /// The figure of so many jobs in so long.
    func figure(jobs: Int, nanoseconds: UInt64) -> Double {
        let rate = Double(jobs) / (Double(nanoseconds) / 1e9)
        return unit == .megabytes ? rate * Double(size) / 1e6 : rate
    }
}

/// A kind of work, done by so many connections with so many requests in flight on each.
struct LoadPoint {
    let name: String
    let work: Work
    var lanes = 1
    var depth = 1
    var tcp = false
    /// Loops of smallocd, worker threads of memcached.
    ///
    /// Redis has one.
    var threads = 1
    /// Allocations of 64 bytes that the server holds; reads go to 10,000 of them, in random order,
    /// by name.
    var preload = 0
    /// Reads go to all of the preloaded instead.
    var isSpread = false
    /// The load sleeps while nothing is there, even where it has a processor to itself.
    var sleeps = false
    /// Batches that a connection sends in turn, each to other allocations.
    var variants = 1

    /// Allocations that the point works on besides the preloaded.
    var targetCount: Int {
        switch work {
        case .ping: 0
        case .read: preload > 0 ? 0 : lanes * depth * variants
        case .write, .fill, .atomic: lanes * depth * variants
        // One pair, over and over, as memmove is measured.
        case .copy: 1
        case .allocDispose, .allocWriteDispose: lanes * depth
        }
    }

    func suits(_ contestant: Contestant) -> Bool {
        if !contestant.hasNames {
            guard preload == 0, threads == 1 else { return false }
            switch work {
            case .read, .write: return work.size <= contestant.kind.valueSizeMax
            default: return false
            }
        }
        if case .fill = work, contestant.kind != .smallocd { return false }
        if case .atomic = work, contestant.kind != .smallocd { return false }
        switch (contestant.kind, work) {
        case (.memcached, .copy), (.null, .copy), (.null, .allocDispose),
            (.null, .allocWriteDispose):
            return false
        default: break
        }
        if contestant.kind == .null && (tcp || preload > 0 || threads > 1) { return false }
        if contestant.kind == .redis && threads > 1 { return false }
        return work.size <= contestant.kind.valueSizeMax
    }
}

/// A size as names of points write it: `64B`, `4KiB`, `1MiB`.
func sizeName(_ bytes: Int) -> String {
    if bytes >= 1 << 30 && bytes % (1 << 30) == 0 { return "\(bytes >> 30)GiB" }
    if bytes >= 1 << 20 && bytes % (1 << 20) == 0 { return "\(bytes >> 20)MiB" }
    if bytes >= 1 << 10 && bytes % (1 << 10) == 0 { return "\(bytes >> 10)KiB" }
    return "\(bytes)B"
}
