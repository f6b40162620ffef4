// What a pool of mappings has, and in which order it is given back.

internal import DequeModule

extension MappingPool {
    /// How far somebody waits for what is on its way back.
    struct Tally {
        /// Mappings ever queued.
        var mappings = 0
        /// Trims ever asked for.
        var trims = 0
    }

    /// All that the pool knows.
    struct State {
        var clean: [Mapping] = []
        var cleanSize = 0
        var queue: Deque<Mapping> = []
        var queueSize = 0
        var wantsTrim = false
        /// Bytes of heap ever freed, as of the last trim and the last look.
        var freedAtLastTrim: UInt64 = 0
        var freedAtLastLook: UInt64 = 0
        var isStarted = false
        var queued = Tally()
        var trimsDone = 0
        /// Numbers of those that are being wiped or unmapped.
        var underWay: [Int] = []
        /// Somebody waits for those up to this number.
        var hurriedNumber = 0

        mutating func enqueue(_ mapping: Mapping) {
            var mapping = mapping
            queued.mappings += 1
            mapping.number = queued.mappings
            queue.append(mapping)
            queueSize += mapping.capacity
        }

        /// What was warm for the longest time is on its way back.
        mutating func evictOldest(_ budget: MemoryBudget) {
            var oldest = clean.removeFirst()
            oldest.isStale = true
            cleanSize -= oldest.capacity
            enqueue(oldest)
            budget.charge(pooled: UInt64(oldest.capacity))
        }
    }
}
