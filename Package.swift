// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0335-existential-any.md
    .enableUpcomingFeature("ExistentialAny"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0409-access-level-on-imports.md
    .enableUpcomingFeature("InternalImportsByDefault"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0444-member-import-visibility.md
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Borrowed requests are `~Escapable`, which only targets of the daemon return; the client's public
/// interface does without.
let borrowing: [SwiftSetting] = settings + [.enableExperimentalFeature("Lifetimes")]

let package = Package(
    name: "smalloc",
    products: [
        .library(name: "Smalloc", targets: ["Smalloc"]),
        .executable(name: "smallocd", targets: ["smallocd"]),
        .executable(name: "smalloc-cli", targets: ["smalloc-cli"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        .systemLibrary(name: "CLibuv", pkgConfig: "libuv", providers: [.apt(["libuv1-dev"])]),
        .systemLibrary(
            name: "CMicroHTTPD", pkgConfig: "libmicrohttpd",
            providers: [.apt(["libmicrohttpd-dev"])]),
        .target(name: "CSmalloc"),
        .target(name: "CReserve", dependencies: ["CSmalloc"]),
        .target(name: "SmallocSystem", dependencies: ["CSmalloc"], swiftSettings: settings),
        .target(name: "SmallocWire", swiftSettings: borrowing),
        .target(
            name: "SmallocCore",
            dependencies: ["SmallocWire", "SmallocSystem", "CSmalloc"],
            swiftSettings: borrowing),
        .target(
            name: "Smalloc", dependencies: ["SmallocWire", "SmallocSystem"],
            swiftSettings: settings + [
                // An async call runs where its caller runs: no hop to another thread and back.
                // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0461-async-function-isolation.md
                .enableUpcomingFeature("NonisolatedNonsendingByDefault")
            ]),
        .executableTarget(
            name: "smallocd",
            dependencies: [
                "CLibuv", "CMicroHTTPD", "CReserve", "CSmalloc", "SmallocCore", "SmallocSystem",
                "SmallocWire",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            resources: [.embedInCode("HTTP/page/index.html")],
            swiftSettings: borrowing),
        .executableTarget(
            name: "smalloc-cli",
            dependencies: [
                "Smalloc", "SmallocSystem", "SmallocWire",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),
        .target(name: "CBench"),
        .executableTarget(
            name: "smalloc-bench",
            dependencies: [
                "CBench", "Smalloc",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),
        .target(
            name: "TestSupport", dependencies: ["SmallocWire"], path: "Tests/TestSupport",
            swiftSettings: settings),
        .target(name: "CFaults", path: "Tests/CFaults"),
        .testTarget(
            name: "WireTests", dependencies: ["SmallocWire", "TestSupport"],
            swiftSettings: borrowing),
        .testTarget(
            name: "CoreTests",
            dependencies: [
                "SmallocCore", "SmallocSystem", "SmallocWire", "CFaults", "CSmalloc",
                "TestSupport",
            ],
            swiftSettings: borrowing),
        .testTarget(
            name: "ClientTests", dependencies: ["Smalloc", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "SmallocdTests",
            dependencies: [
                "smallocd", "SmallocSystem", "SmallocWire", "TestSupport",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: borrowing),
        .testTarget(
            name: "CLITests", dependencies: ["smalloc-cli", "Smalloc", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "BenchTests", dependencies: ["smalloc-bench", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "DaemonTests",
            dependencies: [
                "Smalloc", "CFaults", "CSmalloc", "TestSupport", "conform-driver", "mapped-worker",
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "conform-driver", dependencies: ["Smalloc"], path: "Tests/ConformDriver",
            swiftSettings: settings),
        .executableTarget(
            name: "mapped-worker", dependencies: ["Smalloc"], path: "Tests/MappedWorker",
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
