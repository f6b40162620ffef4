// What one client may ask for that could keep a loop from its other clients.

import Glibc

/// A work of one client, done against a daemon with one loop.
struct TurnWork {
    let name: String
    /// Makes what the work needs; what it returns does the work once, and can be called again.
    let prepare: (Address) throws -> () throws -> Void
}

/// All the works, in the order in which they are measured.
struct TurnWorks {
    private let dialect = SmallocDialect()
    private let pattern = Pattern()

    var all: [TurnWork] {
        [idle, filledAllocations] + vectored + [scattered] + text + lists + endings + [manyStats]
            + bulk
            + [manyReaders] + firstTouches
    }

    /// Nothing but the pings, for half a second.
    private var idle: TurnWork {
        TurnWork(name: "idle") { _ in { usleep(500_000) } }
    }

    /// Asks for `count` things that `render` appends, all in flight at once.
    private func pipeline(
        _ client: Conversation, count: Int, _ render: (Target, inout BatchBuilder) -> Void
    ) throws {
        var builder = BatchBuilder(pattern)
        for number in 0..<count { render(Target(number: number), &builder) }
        try client.ask(builder.request.bytes, replies: count)
    }

    private var filledAllocations: TurnWork {
        TurnWork(name: "alloc, fill, dispose 4000 x 256KiB") {
            let client = try Conversation(to: $0)
            let size = 256 << 10
            return {
                try pipeline(client, count: 4000) { dialect.create($0, size: size, &$1) }
                try pipeline(client, count: 4000) { dialect.fill($0, size: size, &$1) }
                try pipeline(client, count: 4000) { dialect.dispose($0, &$1) }
            }
        }
    }

    /// 1,024 ranges a page apart, 64 requests in flight.
    private var vectored: [TurnWork] {
        [64, 65].flatMap { size in
            [("read", SmallocDialect.Operation.read), ("write", SmallocDialect.Operation.write)].map
            {
                verb, operation in
                TurnWork(name: "vectored \(verb) 1024 x \(size)B") { address in
                    let client = try Conversation(to: address)
                    try pipeline(client, count: 1) { dialect.create($0, size: 4 << 20, &$1) }
                    let target = try client.open([Target(number: 0)])[0]
                    return {
                        try client.ask(replies: 64) { bytes in
                            for _ in 0..<64 {
                                scatter(operation, target, 1024, size, distance: 4096, &bytes)
                            }
                        }
                    }
                }
            }
        }
    }

    /// A range in each of 256 huge pages that nobody has touched.
    private var scattered: TurnWork {
        TurnWork(name: "vectored write 256 x 1B, 2MiB apart") { address in
            let client = try Conversation(to: address)
            return {
                try pipeline(client, count: 1) { dialect.create($0, size: 512 << 20, &$1) }
                let target = try client.open([Target(number: 0)])[0]
                try client.ask(replies: 1) {
                    scatter(
                        SmallocDialect.Operation.write, target, 256, 1, distance: 2 << 20, &$0)
                }
                try pipeline(client, count: 1) { dialect.dispose($0, &$1) }
            }
        }
    }

    /// Appends a vectored request.
    private func scatter(
        _ operation: UInt8, _ target: Target, _ count: Int, _ size: Int, distance: Int,
        _ bytes: inout ByteBuilder
    ) {
        let data = operation == SmallocDialect.Operation.write ? count * size : 0
        dialect.frame(
            &bytes, magic: 0xe5, operation: operation, flags: SmallocDialect.vectored,
            handle: target.handle, payload: count * 16 + data, size: count)
        for index in 0..<count {
            bytes.append(littleEndian: UInt64(index * distance))
            bytes.append(littleEndian: UInt64(size))
        }
        bytes.extend(by: data).initializeMemory(as: UInt8.self, repeating: 1, count: data)
    }

    /// Lines of nearly 1 MiB of numbers, written and read 16 times.
    private var text: [TurnWork] {
        [
            ("integers", { (index: Int) in "\(index % 1_000_000)" }),
            ("1e-300", { _ in "1e-300" }),
            ("17 digits", { (index: Int) in "1.\(2_345_678_901_234_567 + index)e-300" }),
        ].flatMap { kind, number in
            ["write", "read"].map { verb in
                TurnWork(name: "text \(verb) 1MiB, \(kind)") { address in
                    let client = try Conversation(to: address, isText: true)
                    var line = "write t 0"
                    var count = 0
                    while line.utf8.count < (1 << 20) - 64 {
                        line += " " + number(count)
                        count += 1
                    }
                    line += "\n"
                    try client.ask(replies: 2) {
                        $0.append(text: "alloc t \(count) Double\n")
                        $0.append(text: line)
                    }
                    let asked = verb == "write" ? line : "read t\n"
                    return {
                        for _ in 0..<16 { try client.ask(replies: 1) { $0.append(text: asked) } }
                    }
                }
            }
        }
    }

    private var lists: [TurnWork] {
        [
            TurnWork(name: "text list of 100000 names") { address in
                try makeNamed(100_000, Conversation(to: address))
                let client = try Conversation(to: address, isText: true)
                return { try client.ask(replies: 1) { $0.append(text: "list\n") } }
            },
            TurnWork(name: "binary list of 100000 names") { address in
                let client = try Conversation(to: address)
                try makeNamed(100_000, client)
                return {
                    var cursor = 0
                    repeat {
                        try client.ask(replies: 1) {
                            dialect.frame(
                                &$0, magic: 0xe5, operation: SmallocDialect.Operation.list,
                                offset: cursor)
                        }
                        cursor = client.cursor
                    } while cursor != 0
                }
            },
            TurnWork(name: "sorted text list of 4096 names of 200B") { address in
                let maker = try Conversation(to: address)
                try maker.ask(replies: 4096) { bytes in
                    for number in 0..<4096 {
                        dialect.frame(
                            &bytes, magic: 0xe5, operation: SmallocDialect.Operation.alloc,
                            flags: SmallocDialect.noHandle, nameSize: 200,
                            type: SmallocDialect.uint8,
                            payload: 200)
                        bytes.append(text: String(repeating: "n", count: 190))
                        bytes.append(decimal: number * 7919 % 4096, width: 10)
                    }
                }
                let client = try Conversation(to: address, isText: true)
                return { try client.ask(replies: 1) { $0.append(text: "list\n") } }
            },
        ]
    }

    private func makeNamed(_ count: Int, _ client: Conversation) throws {
        try pipeline(client, count: count) { dialect.create($0, size: 8, &$1) }
    }

    /// A connection that holds a million things and ends.
    private var endings: [TurnWork] {
        [
            TurnWork(name: "end with 1000000 handles") { address in
                try makeNamed(1, Conversation(to: address))
                return {
                    try Conversation(to: address).ask(replies: 1_000_000) { bytes in
                        for _ in 0..<1_000_000 { dialect.open(Target(number: 0), &bytes) }
                    }
                }
            },
            TurnWork(name: "end with 1000000 anonymous allocations") { address in
                {
                    try Conversation(to: address).ask(replies: 1_000_000) { bytes in
                        for _ in 0..<1_000_000 {
                            dialect.frame(
                                &bytes, magic: 0xe5, operation: SmallocDialect.Operation.alloc,
                                type: SmallocDialect.uint8, size: 64)
                        }
                    }
                }
            },
        ]
    }

    private var manyStats: TurnWork {
        TurnWork(name: "stats x 4096") { address in
            let client = try Conversation(to: address)
            return {
                try client.ask(replies: 4096) { bytes in
                    for _ in 0..<4096 {
                        dialect.frame(
                            &bytes, magic: 0xe5, operation: SmallocDialect.Operation.stats)
                    }
                }
            }
        }
    }

    /// 64 MiB at a time, eight times.
    private var bulk: [TurnWork] {
        ["read", "write", "copy", "fill"].map { verb in
            TurnWork(name: "\(verb) 64MiB") { address in
                let wire = try Wire(to: address, speaking: dialect)
                let size = 64 << 20
                for number in [0, 1] {
                    try wire.makeFilled(Target(number: number), size: size, pattern)
                }
                let targets = try wire.open([Target(number: 0), Target(number: 1)])
                return {
                    for _ in 0..<8 {
                        try wire.exchange(pattern) { batch in
                            switch verb {
                            case "read":
                                dialect.read(
                                    targets[0], content: targets[0].content(size), &batch)
                            case "write": dialect.write(targets[0], size: size, &batch)
                            case "copy":
                                _ = dialect.copy(targets[1], to: targets[0], size: size, &batch)
                            default: dialect.fill(targets[0], size: size, &batch)
                            }
                        }
                    }
                }
            }
        }
    }

    /// Each connection has eight reads in flight.
    private var manyReaders: TurnWork {
        TurnWork(name: "read 64KiB on 1000 connections") { address in
            let size = 64 << 10
            try Wire(to: address, speaking: dialect)
                .makeFilled(Target(number: 0), size: size, pattern)
            let arena = Arena()
            var wires: [Wire] = []
            var batches: [[Batch]] = []
            for _ in 0..<1000 {
                let wire = try Wire(to: address, speaking: dialect)
                let target = try wire.open([Target(number: 0)])[0]
                var builder = BatchBuilder(pattern)
                for _ in 0..<8 { dialect.read(target, content: target.content(size), &builder) }
                batches.append([builder.finish(jobs: 8, in: arena)])
                wires.append(wire)
            }
            let load = try Load(wires, batches: batches, arena: arena, waiting: .sleeping)
            return { _ = try load.run(seconds: 0.5) }
        }
    }

    /// One byte is written to each of many allocations, whose other bytes stay as they came.
    private var firstTouches: [TurnWork] {
        [1 << 20, 4 << 20].map { size in
            TurnWork(name: "first touch of 2000 x \(sizeName(size))") { address in
                let client = try Conversation(to: address)
                return {
                    try pipeline(client, count: 2000) { dialect.create($0, size: size, &$1) }
                    try pipeline(client, count: 2000) { dialect.write($0, size: 1, &$1) }
                    try pipeline(client, count: 2000) { dialect.dispose($0, &$1) }
                }
            }
        }
    }
}
