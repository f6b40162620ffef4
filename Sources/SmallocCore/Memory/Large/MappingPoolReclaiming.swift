// The pool's thread: wipes mappings that were given back, or unmaps them.

internal import CSmalloc
internal import Glibc
internal import SmallocSystem

extension MappingPool {
    func reclaimNext(_ turns: inout Yielding) {
        while sem_wait(bell) != 0 {}
        // Before the sweep: what it wipes may push out what is warm, and come back to here.
        let trims = state.withLock { state -> Bool in
            defer { state.wantsTrim = false }
            return state.wantsTrim
        }
        if trims {
            blocks.sweep {
                // Whoever waits for a large one should not have to wait for all small ones.
                while let mapping = nextRested().mapping { reclaim(mapping, &turns) }
                turns.yieldIfWorthIt()
            }
            smalloc_heap_trim()
            noteScattered()
            state.withLock { $0.trimsDone += 1 }
        }
        while true {
            let (mapping, rest) = nextRested()
            if let mapping { return reclaim(mapping, &turns) }
            // Somebody took it, or it went in the middle of a sweep.
            if rest == 0 { return }
            // In steps, since somebody may begin to wait.
            usleep(UInt32(min(rest / 1000, 1000)) + 1)
        }
    }

    /// Wipes and keeps it, or unmaps it.
    private func reclaim(_ mapping: Mapping, _ turns: inout Yielding) {
        var mapping = mapping
        let size = mapping.capacity
        let wanted = !mapping.isStale && size <= cleanSizeMax
        if wanted {
            mapping.wipe { turns.yieldIfWorthIt() }
        }
        if !wanted || !keep(mapping) {
            unmap(mapping) { turns.yieldIfWorthIt() }
        }
        state.withLock { state in
            state.queueSize -= size
            if let index = state.underWay.firstIndex(of: mapping.number) {
                state.underWay.remove(at: index)
            }
        }
    }

    /// The oldest of the queue, if nobody took it for `restTime`; else how much of that is left.
    private func nextRested() -> (mapping: Mapping?, rest: UInt64) {
        state.withLock { state -> (Mapping?, UInt64) in
            guard let first = state.queue.first else { return (nil, 0) }
            let isHurried = first.isStale || first.number <= state.hurriedNumber
            let rested = isHurried ? restTime : Clock.now - first.givenAt
            guard rested >= restTime else { return (nil, restTime - rested) }
            state.underWay.append(first.number)
            return (state.queue.removeFirst(), 0)
        }
    }
}
