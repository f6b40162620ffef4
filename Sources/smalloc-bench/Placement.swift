// Who runs where.

import CBench

/// Which processors the servers run on, and which the load.
struct Placement {
    /// For the servers, ascending.
    let servers: [Int]
    /// For the load generator.
    let load: Int
    /// Whether the load runs on a processor of the servers because there are too few.
    let isShared: Bool

    /// - Parameters:
    ///   - available: the processors at hand, ascending, at least one.
    ///   - serverCount: how many the servers should have.
    init(available: [Int], serverCount: Int) {
        let last = available.count - 1
        isShared = available.count < serverCount + 1
        servers = Array(available.prefix(isShared ? available.count : serverCount))
        load = available[last]
    }

    /// The processors that this process may use.
    static func available() -> [Int] {
        var processors = [Int32](repeating: 0, count: 1024)
        let count = cbench_processors(&processors, 1024)
        return count > 0 ? processors.prefix(Int(count)).map { Int($0) } : [0]
    }

    /// Binds the calling thread to the load's processor.
    ///
    /// - Returns: Whether the kernel lets it.
    func pinLoad() -> Bool {
        var processor = Int32(load)
        return cbench_pin(&processor, 1) == 0
    }
}
