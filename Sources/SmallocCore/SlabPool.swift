// Memory from the kernel for much that is small: slabs, in regions that may be huge pages, so that
// what is looked at among millions is found without a miss of the TLB each.
//
//   region  2 MiB, aligned
//     0      the size class of each slab, 32 bytes, in one of 32 cache lines by the region's
//            address: were it always the same line, all regions would want one place in the cache
//     2048   free blocks of each slab, 64 bytes
//     4096   slab 0, then at each multiple of 64 KiB slabs 1 to 31
//
// Invariant: a slab is zeros when it is free.

internal import CSmalloc
internal import Glibc
internal import Synchronization

/// 60 or 64 KiB of a region.
struct Slab: @unchecked Sendable {
    static let sizeMax = 64 << 10
    fileprivate static let regionSize = 2 << 20
    fileprivate static let count = regionSize / sizeMax
    private static let headerSize = 4096
    private static let countsOffset = 2048

    let region: UnsafeMutableRawPointer
    let index: Int

    /// The slab that an address is in.
    @inline(__always)
    init(of address: UnsafeMutableRawPointer) {
        let offset = Int(bitPattern: address) & (Slab.regionSize - 1)
        region = address - offset
        index = offset / Slab.sizeMax
    }

    fileprivate init(region: UnsafeMutableRawPointer, index: Int) {
        self.region = region
        self.index = index
    }

    var start: UnsafeMutableRawPointer {
        region + max(index * Slab.sizeMax, Slab.headerSize)
    }

    /// Bytes.
    var size: Int { index == 0 ? Slab.sizeMax - Slab.headerSize : Slab.sizeMax }

    /// A number for its owner, which is what the slab's blocks are like.
    @inline(__always)
    var sizeClass: UnsafeMutablePointer<UInt8> {
        let line = Int(bitPattern: region) / Slab.regionSize % Slab.count
        return (region + line * 64).assumingMemoryBound(to: UInt8.self) + index
    }

    /// Another, 0 when not in use.
    @inline(__always)
    var freeCount: UnsafeMutablePointer<UInt16> {
        (region + Slab.countsOffset).assumingMemoryBound(to: UInt16.self) + index
    }
}

/// Hands out slabs and takes them back.
///
/// All methods from any thread.
final class SlabPool: @unchecked Sendable {
    private struct State {
        /// The lowest address last, to be taken first.
        var free: [Slab] = []
        /// By address.
        var regions: Set<UInt> = []
        /// Whether the kernel was told that huge pages are welcome.
        var isHuge = false
    }

    private let lockWord: UnsafeMutablePointer<UInt32>
    private var state = State()

    init() {
        lockWord = .allocate(capacity: 1)
        lockWord.initialize(to: 0)
    }

    deinit {
        lockWord.deallocate()
        for region in state.regions {
            munmap(UnsafeMutableRawPointer(bitPattern: region), Slab.regionSize)
        }
    }

    // Mutex, where it is waited for, is not seen by ThreadSanitizer.
    private func withState<Result>(_ body: (inout State) -> Result) -> Result {
        let lock = ByteLock(lockWord)
        lock.lock()
        defer { lock.unlock() }
        return body(&state)
    }

    /// Bytes of all regions.
    var mappedSize: Int { withState { $0.regions.count * Slab.regionSize } }

    /// Bytes of slabs that are taken one by one, to be cut.
    var cutSize: Int { cut.load(ordering: .relaxed) }
    private let cut = Atomic<Int>(0)

    /// Slabs that are not free.
    var usedCount: Int { withState { $0.regions.count * Slab.count - $0.free.count } }

    /// A slab of zeros; nil: no memory.
    func take() -> Slab? {
        let slab = withState { state -> Slab? in
            if state.free.isEmpty, !SlabPool.addRegion(&state) { return nil }
            return state.free.popLast()
        }
        if let slab { cut.wrappingAdd(slab.size, ordering: .relaxed) }
        return slab
    }

    /// Memory for `count` slabs in one piece, zeros.
    func takeRun(_ count: Int) -> UnsafeMutableRawPointer? {
        let first = withState { state -> Slab? in
            if let first = SlabPool.takeRun(count, &state) { return first }
            guard SlabPool.addRegion(&state) else { return nil }
            return SlabPool.takeRun(count, &state)
        }
        return first?.start
    }

    private static func takeRun(_ wanted: Int, _ state: inout State) -> Slab? {
        var count = 0
        for index in state.free.indices.reversed() {
            let slab = state.free[index]
            let follows = count > 0 && slab.start == state.free[index + 1].start + Slab.sizeMax
            // The first of a region is smaller, and so follows nobody.
            count = slab.index == 0 ? 0 : follows ? count + 1 : 1
            if count == wanted {
                let first = state.free[index + wanted - 1]
                state.free.removeSubrange(index..<index + wanted)
                return first
            }
        }
        return nil
    }

    /// Takes back what `takeRun` gave.
    func giveRun(_ start: UnsafeMutableRawPointer, _ count: Int) {
        // With the memory behind it: most will soon be wanted again.
        memset(start, 0, count * Slab.sizeMax)
        let first = Slab(of: start)
        withState { state in
            for index in 0..<count {
                state.free.append(Slab(region: first.region, index: first.index + index))
            }
            state.free.sort { $0.start > $1.start }
        }
    }

    /// Takes slabs back, and gives their memory to the kernel; regions of nothing else go as well.
    func give(_ slabs: [Slab]) {
        for slab in slabs {
            // It has to read as zeros when it is taken again.
            if madvise(slab.start, slab.size, MADV_DONTNEED) != 0 {
                memset(slab.start, 0, slab.size)
            }
            cut.wrappingSubtract(slab.size, ordering: .relaxed)
        }
        let empty = withState { state -> [UInt] in
            var counts: [UInt: Int] = [:]
            for slab in slabs + state.free { counts[slab.address, default: 0] += 1 }
            let empty = counts.filter { $0.value == Slab.count }
            state.free = (state.free + slabs).filter { empty[$0.address] == nil }
            state.free.sort { $0.start > $1.start }
            state.regions.subtract(empty.keys)
            if state.regions.isEmpty { state.isHuge = false }
            return Array(empty.keys)
        }
        for region in empty { munmap(UnsafeMutableRawPointer(bitPattern: region), Slab.regionSize) }
    }

    private static func addRegion(_ state: inout State) -> Bool {
        guard let region = mapRegion() else { return false }
        // A daemon with little in it stays small: huge pages are for where there is more.
        if !state.regions.isEmpty {
            madvise(region, Slab.regionSize, MADV_HUGEPAGE)
            if !state.isHuge {
                for other in state.regions {
                    madvise(
                        UnsafeMutableRawPointer(bitPattern: other), Slab.regionSize, MADV_HUGEPAGE)
                }
                state.isHuge = true
            }
        }
        state.regions.insert(UInt(bitPattern: region))
        for index in (0..<Slab.count).reversed() {
            state.free.append(Slab(region: region, index: index))
        }
        return true
    }

    private static func mapRegion() -> UnsafeMutableRawPointer? {
        guard
            let start = mmap(
                nil, 2 * Slab.regionSize, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), start != MAP_FAILED
        else { return nil }
        let ahead = Int(bitPattern: start) % Slab.regionSize
        let lead = (Slab.regionSize - ahead) % Slab.regionSize
        if lead > 0 { munmap(start, lead) }
        munmap(start + lead + Slab.regionSize, Slab.regionSize - lead)
        return start + lead
    }
}

extension Slab {
    fileprivate var address: UInt { UInt(bitPattern: region) }
}
