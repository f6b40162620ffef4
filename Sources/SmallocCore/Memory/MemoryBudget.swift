// What all allocations take together, against the limits that a reload may change and against what
// the kernel allows a process.

internal import Synchronization

/// Counts bytes, allocations and kernel mappings against their limits.
///
/// All methods from any thread, none waits.
final class MemoryBudget: Sendable {
    private let used = Atomic<UInt64>(0)
    private let pooled = Atomic<UInt64>(0)
    /// Of those used, input and output of connections.
    private let buffers = Atomic<UInt64>(0)
    private let allocations = Atomic<UInt64>(0)
    private let heapFreed = Atomic<UInt64>(0)
    private let fragmented = Atomic<UInt64>(0)
    private let mappings = Atomic<UInt64>(0)
    private let limits: SharedLimits
    /// Kernel mappings at most.
    let mappingsMax: UInt64

    init(limits: SharedLimits, mappingsMax: UInt64 = SystemMemory.mappingsMax) {
        self.limits = limits
        self.mappingsMax = mappingsMax
    }

    /// Bytes charged, warm memory aside.
    var usedSize: UInt64 { used.load(ordering: .relaxed) }
    /// Bytes of warm memory.
    var pooledSize: UInt64 { pooled.load(ordering: .relaxed) }
    /// Bytes of heap that were ever freed.
    var heapFreedSize: UInt64 { heapFreed.load(ordering: .relaxed) }
    /// Bytes that are free between small allocations that are not.
    var fragmentedSize: UInt64 { fragmented.load(ordering: .relaxed) }
    /// Live allocations.
    var allocationCount: UInt64 { allocations.load(ordering: .relaxed) }

    /// Charges `size` bytes unless that is over the limit.
    func charge(_ size: UInt64) -> Bool {
        // Not even for a moment: another loop would be refused what fits.
        guard size <= limits.memorySizeMax else { return false }
        let total = used.wrappingAdd(size, ordering: .relaxed).newValue
        // Warm memory is taken into account by the caller dropping it before it gives up.
        let whole = total &+ pooled.load(ordering: .relaxed) &+ fragmentedSize
        if whole <= limits.memorySizeMax { return true }
        used.wrappingSubtract(size, ordering: .relaxed)
        return false
    }

    /// Charges memory for input or output of a connection.
    ///
    /// All of it together may take an eighth of the limit, at most `bufferReserve`, however much
    /// else is used: what is held can be read, and made less, where the limit is reached, or was
    /// lowered.
    func charge(buffer size: UInt64) -> Bool {
        guard size > 0 else { return true }
        let total = used.wrappingAdd(size, ordering: .relaxed).newValue
        let ofBuffers = buffers.wrappingAdd(size, ordering: .relaxed).newValue
        let limit = limits.memorySizeMax
        if total <= limit || ofBuffers <= min(limit / 8, MemoryBudget.bufferReserve) { return true }
        uncharge(buffer: size)
        return false
    }

    /// Takes back what `charge(buffer:)` charged.
    func uncharge(buffer size: UInt64) {
        buffers.wrappingSubtract(size, ordering: .relaxed)
        uncharge(size)
    }

    private static let bufferReserve: UInt64 = 16 << 20

    /// Notes how many bytes are free between small allocations that are not.
    ///
    /// They are in memory all the same, so they count against the limit.
    func noteFragmented(_ size: UInt64) { fragmented.store(size, ordering: .relaxed) }

    /// Charges what is needed to make memory free, whatever the limit.
    func chargeAnyway(_ size: UInt64) { used.wrappingAdd(size, ordering: .relaxed) }

    /// Replaces an estimate by what was really taken.
    func correct(from estimate: UInt64, to size: UInt64) {
        used.wrappingAdd(size &- estimate, ordering: .relaxed)
    }

    /// Takes off what an allocation took of the heap.
    func unchargeHeap(_ size: UInt64) {
        uncharge(size)
        heapFreed.wrappingAdd(size, ordering: .relaxed)
    }

    /// Whether `size` bytes more could fit if all that is on its way back, or warm, were free.
    func canFit(_ size: UInt64, returning: UInt64) -> Bool {
        let held = usedSize
        let kept = held > returning ? held - returning : 0
        return kept <= limits.memorySizeMax && size <= limits.memorySizeMax - kept
    }

    func uncharge(_ size: UInt64) { used.wrappingSubtract(size, ordering: .relaxed) }

    /// Turns charged bytes into warm ones.
    func pool(_ size: UInt64) {
        pooled.wrappingAdd(size, ordering: .relaxed)
        used.wrappingSubtract(size, ordering: .relaxed)
    }

    /// Turns warm bytes back into charged ones, until they are unmapped.
    func charge(pooled size: UInt64) {
        used.wrappingAdd(size, ordering: .relaxed)
        pooled.wrappingSubtract(size, ordering: .relaxed)
    }

    /// Warm bytes are warm no more: handed out, to a record that is charged, or unmapped.
    func unpool(_ size: UInt64) { pooled.wrappingSubtract(size, ordering: .relaxed) }

    // MARK: Kernel mappings

    /// Kernel mappings counted.
    var mappingCount: UInt64 { mappings.load(ordering: .relaxed) }

    /// Counts `count` kernel mappings more unless that is over the limit.
    func chargeMappings(_ count: UInt64) -> Bool {
        if mappings.wrappingAdd(count, ordering: .relaxed).newValue <= mappingsMax { return true }
        unchargeMappings(count)
        return false
    }

    func unchargeMappings(_ count: UInt64) {
        mappings.wrappingSubtract(count, ordering: .relaxed)
    }

    // MARK: Allocations

    /// Counts one more allocation unless that is over the limit.
    func addAllocation() -> Bool {
        let count = allocations.wrappingAdd(1, ordering: .relaxed).newValue
        if count <= limits.allocationsMax { return true }
        allocations.wrappingSubtract(1, ordering: .relaxed)
        return false
    }

    func removeAllocation() { allocations.wrappingSubtract(1, ordering: .relaxed) }
}
