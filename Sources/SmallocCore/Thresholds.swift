// The sizes and numbers that decide how something is done: by a copy or a view, at once or in
// slices, on the loop or on another thread. All that the core decides so stands here, with what
// chose it.
//
// Others stand where they belong to more than the core: `Limits.atomicSizeMax` in SmallocWire,
// which the protocol promises; `Yielding.stepSize` in SmallocSystem, the step of all work of other
// threads; `ChunkSizes` in smallocd, how much of a large transfer a loop moves at a time.

/// When the core does what.
///
/// Computed, so that each use is a constant.
enum Thresholds {
    // MARK: Where data is

    /// Bytes from which on an allocation's data is not inline, behind its header, but has a storage
    /// record.
    ///
    /// `Allocation.make` asks.
    @inline(__always) static var outOfLineSizeMin: Int { 64 << 10 }

    /// Bytes up to which large memory is taken with the first access only, and is handed out before
    /// it is wiped.
    ///
    /// `MappingPool.makeRecord` asks. To wipe so much takes 20 milliseconds. Larger memory takes
    /// its addresses at once, so that an allocation which the machine can't have is refused as
    /// such.
    @inline(__always) static var lazySizeMax: Int { 256 << 20 }

    // MARK: Copy or view

    /// Bytes of a range below which it is copied, together with its neighbours, and has no view in
    /// a system call.
    ///
    /// `Pieces` asks. A view costs a system call about as much as to copy so many bytes: with a
    /// call for each range, a vectored read of 1,024 ranges was 91 times slower.
    @inline(__always) static var viewSizeMin: Int { 2 << 10 }

    /// Bytes of data that are copied to the output at a time, as `Session.fillViews` and `copyNext`
    /// do with small ranges, and with what waits for a full socket.
    @inline(__always) static var copiedSizeMax: Int { 64 << 10 }

    /// Bytes from which on a copy goes past the caches, which could not hold it anyway.
    ///
    /// `Work.copyStep` asks. `memmove` does so too, but decides by the size of one call, and from a
    /// size on that differs between machines by a factor of a hundred.
    @inline(__always) static var streamedSizeMin: Int { 32 << 20 }

    // MARK: On the loop or on another thread

    /// Bytes from which on a copy or fill is left to another thread.
    ///
    /// `Registry.copy` and `fill` ask.
    ///
    /// What takes about 100 microseconds is done at once: to hand it over takes as long.
    @inline(__always) static var workSizeMin: Int { (1 << 20) + 1 }

    /// Bytes that are wiped on the spot, which takes some microseconds: of memory that is given
    /// back (`MappingPool.give`), and stale ones that a request finds (`StorageRecord`).
    ///
    /// With 256 KiB, 4,000 disposes in a row held a loop up for 78 to 147 milliseconds.
    @inline(__always) static var wipedAtOnceMax: Int { 64 << 10 }

    /// Handles that are closed in a row when a connection ends; more are left to the reclaiming
    /// thread, which closes as many in a step.
    ///
    /// `Registry.end` asks.
    @inline(__always) static var closedAtOnceMax: Int { 64 }

    /// Bytes that a truncate leaves, up to which they are moved to memory of their own where that
    /// frees what was mapped: some dozen microseconds.
    ///
    /// `Allocation.takeTail` asks.
    @inline(__always) static var leftSizeMax: Int { 256 << 10 }

    // MARK: Slices and turns

    /// Bytes of replies after which they leave: as many as stay in a processor's cache until they
    /// do.
    ///
    /// `BatchLimit` asks.
    @inline(__always) static var batchSizeMax: Int { 256 << 10 }

    /// Work that one call of `serve` may do, as bytes of a copy: about a millisecond.
    ///
    /// `Session.serve`, long answers in text and long lines ask. See `Caller.Cost`.
    @inline(__always) static var turnCostMax: Int { 8 << 20 }

    /// Nanoseconds after which `Caller.isTurnSpent` ends a turn that touches memory for the first
    /// time: the kernel may take milliseconds for one huge page, so that no more than one is
    /// touched in a turn where it does.
    @inline(__always) static var touchTimeMax: UInt64 { 1_000_000 }

    /// Bytes that one slice of a copy or fill moves on another thread: a few milliseconds, a
    /// hundred times what it costs to queue the next.
    ///
    /// `Work` asks.
    @inline(__always) static var workSliceSize: Int { 32 << 20 }

    /// Bytes that a promotion moves under one hold of the allocation's lock: some hundred
    /// microseconds, in which a loop that asks for the allocation waits.
    ///
    /// `Promotion` asks. With 1 MiB on a busy machine a small read waited for up to 340
    /// milliseconds.
    @inline(__always) static var promotedSliceSize: Int { 256 << 10 }

    /// Nanoseconds after which a freeze is not tried again that waits for pages which other
    /// processes have in hand.
    ///
    /// `Freezing` asks. A try takes 150 milliseconds, and with two busy readers one in 240 failed,
    /// none twice.
    @inline(__always) static var freezingTimeMax: UInt64 { 1_000_000_000 }

    /// Bytes of large memory that are given back by one call: the kernel locks the whole address
    /// space meanwhile, and a loop may want memory.
    ///
    /// `Mapping` asks.
    @inline(__always) static var returnSliceSize: Int { 8 << 20 }

    /// Bytes of a line's values that are read at a time: at most half a millisecond.
    ///
    /// `Encoding` asks.
    @inline(__always) static var lineSliceSize: Int { 16 << 10 }

    /// Bytes of an allocation that text mode shows at a time: whole elements of every type, whole
    /// groups of base64.
    ///
    /// `Session.show` asks.
    @inline(__always) static var shownSliceSize: Int { 24 << 10 }

    /// Slots that one page of a listing looks at, at most about this many: half a millisecond.
    ///
    /// `Registry.list` asks.
    @inline(__always) static var pageSlots: Int { 16_384 }

    /// Allocations up to which a listing for people is sorted.
    ///
    /// `Registry.list` asks.
    @inline(__always) static var sortedMax: UInt64 { 4096 }

    /// Free blocks that a sweep looks at in a row: some dozen microseconds.
    ///
    /// `BlockPool.sweep` asks.
    @inline(__always) static var sweepSliceCount: Int { 256 }

    /// Waits that are ended in a row, under their allocation's lock: some hundred microseconds.
    ///
    /// `Registry.notify`, `endWaits` and `LoopWaits.expire` ask.
    @inline(__always) static var endedAtOnceMax: Int { 1024 }

    /// Events that a loop looks at for those that watch, before others have their turn: some
    /// hundred microseconds.
    ///
    /// `LoopWaits.lookForEvents` asks. A watch that begins looks at all there are, which takes half
    /// as long.
    @inline(__always) static var eventsLookedMax: Int { 2 * EventRing.capacity }

    /// What it costs to look at a watch, in events: a lock and three cache lines.
    @inline(__always) static var watchLookedCost: Int { 8 }

    // MARK: Worth it

    /// Allocations from which on names are looked up ahead: fewer are in the processor's caches
    /// anyway.
    ///
    /// `NamePrefetch` asks.
    @inline(__always) static var prefetchCountMin: UInt64 { 1 << 16 }

    /// Bytes of small memory that must have been freed since the last sweep, and an eighth of what
    /// is in use, before `MappingPool.returnMemory` has small memory swept: to look for what is
    /// free holds up threads that allocate.
    @inline(__always) static var sweepSizeMin: UInt64 { 4 << 20 }
}
