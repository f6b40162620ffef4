// What an asynchronous Swift client in the style of the Redis clients on SwiftNIO comes to: one
// connection, a promise a request. Prints operations per second.
//
//     NIOClient SOCKET TASKS SECONDS

import NIOCore
import NIOPosix

@main
struct NIOClient {
    static func main() async throws {
        let words = CommandLine.arguments
        guard words.count == 4, let tasks = Int(words[2]), let seconds = Double(words[3]) else {
            print("usage: NIOClient SOCKET TASKS SECONDS")
            return
        }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let channel = try await ClientBootstrap(group: group)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(PromiseQueue())
                }
            }
            .connect(unixDomainSocketPath: words[1]).get()
        let value = [UInt8](0..<64)
        _ = try await ask("SET", ["k", String(decoding: value, as: UTF8.self)], on: channel)
        let get = request("GET", ["k"])
        _ = try await measure(channel, get, value, tasks, .seconds(0.2))
        let rate = try await measure(channel, get, value, tasks, .seconds(seconds))
        print(Int(rate))
        try await channel.close()
        try await group.shutdownGracefully()
    }

    /// Operations per second of so many tasks that each ask again as soon as they are answered.
    private static func measure(
        _ channel: any Channel, _ get: ByteBuffer, _ value: [UInt8], _ tasks: Int,
        _ duration: Duration
    ) async throws -> Double {
        let clock = ContinuousClock()
        let start = clock.now
        let jobs = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<tasks {
                group.addTask {
                    var jobs = 0
                    while clock.now - start < duration {
                        let answer = try await send(get, on: channel)
                        precondition(answer.readableBytesView.elementsEqual(value), "wrong bytes")
                        jobs += 1
                    }
                    return jobs
                }
            }
            return try await group.reduce(0, +)
        }
        return Double(jobs) / ((clock.now - start) / .seconds(1))
    }

    private static func ask(
        _ verb: String, _ words: [String], on channel: any Channel
    ) async throws -> ByteBuffer { try await send(request(verb, words), on: channel) }

    private static func send(
        _ request: ByteBuffer, on channel: any Channel
    ) async throws -> ByteBuffer {
        let promise = channel.eventLoop.makePromise(of: ByteBuffer.self)
        channel.writeAndFlush((request, promise), promise: nil)
        return try await promise.futureResult.get()
    }

    private static func request(_ verb: String, _ words: [String]) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeString("*\(words.count + 1)\r\n")
        for word in [verb] + words {
            buffer.writeString("$\(word.utf8.count)\r\n\(word)\r\n")
        }
        return buffer
    }
}
