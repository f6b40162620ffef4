// Shapes and metadata through the library, on both faces.

import Smalloc
import Testing
import TestSupport

@Suite("Shapes and metadata", .timed)
struct ShapeTests {
    let smalloc: Smalloc

    init() throws { smalloc = try SharedDaemon.connect() }

    @Test("what one client says of an allocation is told to the others")
    func told() async throws {
        let daemon = try await SharedDaemon.connectAsync()
        let metadata = (0..<256).map { UInt8($0) }
        for shape in [[], [6], [2, 3], [3, 0, 7], [1, 2, 1, 3, 1, 1, 1, 1]] as [[Int]] {
            let name = SharedDaemon.name()
            let length = shape.reduce(1, *)
            let a: Allocation
            if shape.count % 2 == 0 {
                a = try smalloc.alloc(shape: shape, named: name, .float16, metadata: metadata)
            } else {
                let made = try await daemon.alloc(
                    shape: shape, named: name, .float16, metadata: metadata)
                #expect(try await made.shape == shape)
                #expect(try await made.metadata == metadata)
                a = try smalloc.open(name)
            }
            #expect(a.length == length && a.type == .float16)
            #expect(try a.shape == shape)
            #expect(try a.metadata == metadata)
            let b = try await daemon.open(name)
            #expect(try await b.shape == shape)
            #expect(try await b.metadata == metadata)
            let stat = try smalloc.stat(name)
            #expect(stat.shape == shape && stat.metadata == metadata && stat.owner != nil)
            try smalloc.dispose(named: name)
        }
    }

    @Test("without them there are none")
    func none() async throws {
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(4, named: name)
        #expect(try a.shape == nil)
        #expect(try a.metadata == [])
        let b = try smalloc.open(name)
        #expect(try b.shape == nil)
        #expect(try b.metadata == [])
        let c = try await SharedDaemon.connectAsync().open(name)
        #expect(try await c.shape == nil)
        #expect(try await c.metadata == [])
        try smalloc.dispose(named: name)
        let anonymous = try smalloc.alloc(shape: [2, 2])
        #expect(try anonymous.shape == [2, 2])
        #expect(try anonymous.stat().shape == [2, 2])
        #expect(try anonymous.stat().metadata == [])
    }

    @Test("metadata goes without a shape")
    func metadataAlone() async throws {
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(3, named: name, .bool, metadata: [1, 2])
        #expect(try a.shape == nil)
        #expect(try a.metadata == [1, 2])
        #expect(try smalloc.stat(name).metadata == [1, 2])
        #expect(try smalloc.stat(name).shape == nil)
        let daemon = try await SharedDaemon.connectAsync()
        let b = try await daemon.alloc(3, .bool, metadata: [3])
        #expect(try await b.stat().metadata == [3])
        #expect(try await b.metadata == [3])
        let none = try await daemon.alloc(3, metadata: [])
        #expect(try await none.stat().shape == nil)
        try smalloc.dispose(named: name)
    }

    @Test("many are told in one call, and those that are not there as none")
    func many() throws {
        let prefix = SharedDaemon.name()
        let names = (0..<250).map { "\(prefix)/\($0)" }
        for (index, name) in names.enumerated() where index % 7 != 3 {
            try smalloc.create(name, index, .bool, shape: [1, index])
        }
        let stats = try smalloc.stat(names)
        #expect(stats.map(\.?.shape) == (0..<250).map { $0 % 7 == 3 ? nil : [1, $0] })
        #expect(try smalloc.stat([]).isEmpty)
        let wrong = failure { () throws(SmallocError) in
            _ = try smalloc.stat([names[0], "no name"])
        }
        #expect(wrong?.status == .invalidName)
        for name in names where (try? smalloc.dispose(named: name)) == nil {
            #expect(stats[names.firstIndex(of: name) ?? 0] == nil)
        }
    }

    @Test("a created one is described, too, and its shape is checked by the daemon")
    func created() throws {
        let name = SharedDaemon.name()
        let refused = failure { () throws(SmallocError) in
            try smalloc.create(name, 6, .int64, shape: [2, 4])
        }
        #expect(refused?.status == .invalidArgument)
        try smalloc.create(name, 6, .int64, shape: [2, 3], metadata: [1])
        #expect(try smalloc.open(name).shape == [2, 3])
        #expect(try smalloc.open(name).metadata == [1])
        try smalloc.dispose(named: name)
    }

    @Test("a shape ends with a truncate, and a slice has none")
    func truncated() async throws {
        let name = SharedDaemon.name()
        let a = try smalloc.alloc(shape: [2, 3], named: name, .uint64, metadata: [5])
        let b = try await SharedDaemon.connectAsync().open(name)
        #expect(try await b.shape == [2, 3])
        let slice = try a.slice(0, 6)
        #expect(try slice.shape == nil)
        #expect(try slice.metadata == [5])
        try a.truncate(6)
        #expect(try a.shape == [2, 3])
        try a.truncate(3)
        #expect(try a.shape == nil)
        #expect(try a.metadata == [5])
        // The other one learns of it.
        _ = try await b.stat()
        #expect(try await b.shape == nil)
        #expect(try await b.metadata == [5])
        try smalloc.dispose(named: name)
        #expect(failure { () throws(SmallocError) in _ = try a.shape }?.status == nil)
    }

    @Test("what can't be is refused")
    func refused() async throws {
        let daemon = try await SharedDaemon.connectAsync()
        let wrong: [([Int], [UInt8], Smalloc.Status)] = [
            (Array(repeating: 1, count: 9), [], .invalidArgument),
            ([1], [UInt8](repeating: 0, count: 257), .invalidArgument),
            ([1], [UInt8](repeating: 0, count: 70_000), .invalidArgument),
            ([-1], [], .tooLarge), ([-2, -3], [], .tooLarge), ([.max, .max], [], .tooLarge),
            ([1 << 40, 1 << 40], [], .tooLarge),
        ]
        for (shape, metadata, status) in wrong {
            let one = failure { () throws(SmallocError) in
                _ = try smalloc.alloc(shape: shape, .int8, metadata: metadata)
            }
            #expect(one?.status == status, "\(shape)")
            let other = await failure { () async throws(SmallocError) in
                _ = try await daemon.alloc(shape: shape, .int8, metadata: metadata)
            }
            #expect(other?.status == status, "\(shape)")
        }
        let name = SharedDaemon.name()
        try smalloc.create(name, 1)
        let taken = failure { () throws(SmallocError) in
            _ = try smalloc.alloc(shape: [1], named: name)
        }
        #expect(taken?.status == .alreadyExists)
        try smalloc.dispose(named: name)
    }
}
