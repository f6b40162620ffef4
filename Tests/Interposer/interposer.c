// Loaded into the daemon before the C library, makes the n-th call of a kind fail as the system may
// make it fail. A file that the test maps too says which; calls are counted from then on.
//
// Calls that can't fail in the state that they are made in do not fail here either: a descriptor
// that epoll knows already, an event descriptor of libuv's own.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// Kinds up to 4 are those of CSmalloc.h. The numbers are the test's, too.
enum {
    FAULT_MMAP = 10,
    FAULT_MUNMAP,
    FAULT_MADVISE,
    FAULT_ACCEPT,
    FAULT_THREAD,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_EPOLL,
    FAULT_GETSOCKOPT,
    FAULT_SETSOCKOPT,
    FAULT_SHUTDOWN,
    FAULT_MALLOC,
    FAULT_MEMFD,
    FAULT_SENDMSG,
    FAULT_INOTIFY,
    FAULT_SEAL,
    FAULT_REOPEN,
};

// Blocks of malloc that fail: smaller ones of the language's can't, and draw on the reserve.
enum { LARGE = 64 << 10 };

struct control {
    // -1: none fails.
    atomic_int kind;
    atomic_int left_before;
    atomic_int left_to_fail;
    atomic_int number;
    // A descriptor whose calls are neither counted nor failed; -1: none.
    atomic_int spared;
    // Calls that have failed, and the descriptor of the last one; of the last that was counted.
    atomic_int failed;
    atomic_int failed_descriptor;
    atomic_int last_descriptor;
};

static struct control none = {.kind = -1};
static struct control *control = &none;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SMALLOC_TEST_FAULTS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *start = (void *)syscall(
        SYS_mmap, NULL, sizeof *control, (long)(PROT_READ | PROT_WRITE), (long)MAP_SHARED,
        (long)file, 0L);
    if (start != MAP_FAILED) control = start;
    close(file);
}

static bool fails(int kind, int descriptor) {
    if (control->kind != kind) return false;
    if (descriptor >= 0 && descriptor == control->spared) return false;
    control->last_descriptor = descriptor;
    if (atomic_fetch_sub(&control->left_before, 1) > 0) return false;
    if (atomic_fetch_sub(&control->left_to_fail, 1) <= 0) return false;
    control->failed_descriptor = descriptor;
    atomic_fetch_add(&control->failed, 1);
    errno = control->number;
    return true;
}

static bool fails_on_socket(int kind, int descriptor) {
    struct stat status;
    if (control->kind != kind || fstat(descriptor, &status) != 0) return false;
    return S_ISSOCK(status.st_mode) && fails(kind, descriptor);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int smalloc_fault(int kind) { return fails(kind, -1); }

void *mmap(void *start, size_t size, int rights, int flags, int file, off_t offset) {
    if (fails(FAULT_MMAP, -1)) return MAP_FAILED;
    return (void *)syscall(
        SYS_mmap, start, size, (long)rights, (long)flags, (long)file, offset);
}

int munmap(void *start, size_t size) {
    return fails(FAULT_MUNMAP, -1) ? -1 : (int)syscall(SYS_munmap, start, size);
}

int madvise(void *start, size_t size, int advice) {
    return fails(FAULT_MADVISE, -1) ? -1 : (int)syscall(SYS_madvise, start, size, (long)advice);
}

int accept4(int listener, struct sockaddr *address, socklen_t *size, int flags) {
    return fails(FAULT_ACCEPT, -1) ? -1 : NEXT(accept4)(listener, address, size, flags);
}

int pthread_create(
    pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *context) {
    if (fails(FAULT_THREAD, -1)) return control->number;
    return NEXT(pthread_create)(thread, attributes, body, context);
}

ssize_t read(int file, void *bytes, size_t size) {
    return fails_on_socket(FAULT_READ, file) ? -1 : NEXT(read)(file, bytes, size);
}

ssize_t readv(int file, const struct iovec *views, int count) {
    return fails_on_socket(FAULT_READ, file) ? -1 : NEXT(readv)(file, views, count);
}

ssize_t recv(int file, void *bytes, size_t size, int flags) {
    return fails_on_socket(FAULT_READ, file) ? -1 : NEXT(recv)(file, bytes, size, flags);
}

ssize_t recvmsg(int file, struct msghdr *message, int flags) {
    return fails_on_socket(FAULT_READ, file) ? -1 : NEXT(recvmsg)(file, message, flags);
}

ssize_t write(int file, const void *bytes, size_t size) {
    return fails_on_socket(FAULT_WRITE, file) ? -1 : NEXT(write)(file, bytes, size);
}

ssize_t writev(int file, const struct iovec *views, int count) {
    return fails_on_socket(FAULT_WRITE, file) ? -1 : NEXT(writev)(file, views, count);
}

ssize_t send(int file, const void *bytes, size_t size, int flags) {
    return fails_on_socket(FAULT_WRITE, file) ? -1 : NEXT(send)(file, bytes, size, flags);
}

ssize_t sendmsg(int file, const struct msghdr *message, int flags) {
    // With descriptors it is a kind of its own.
    int kind = message->msg_controllen > 0 ? FAULT_SENDMSG : FAULT_WRITE;
    return fails_on_socket(kind, file) ? -1 : NEXT(sendmsg)(file, message, flags);
}

int epoll_ctl(int epoll, int operation, int file, struct epoll_event *event) {
    int result = NEXT(epoll_ctl)(epoll, operation, file, event);
    if (operation != EPOLL_CTL_ADD || result != 0 || !fails(FAULT_EPOLL, file)) return result;
    NEXT(epoll_ctl)(epoll, EPOLL_CTL_DEL, file, NULL);
    errno = control->number;
    return -1;
}

int memfd_create(const char *name, unsigned int flags) {
    return fails(FAULT_MEMFD, -1) ? -1 : NEXT(memfd_create)(name, flags);
}

int inotify_add_watch(int watch, const char *path, uint32_t events) {
    return fails(FAULT_INOTIFY, -1) ? -1 : NEXT(inotify_add_watch)(watch, path, events);
}

int fcntl(int file, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    bool is_seal = command == F_ADD_SEALS || command == F_SETLEASE;
    if (is_seal && fails(FAULT_SEAL, -1)) return -1;
    return NEXT(fcntl)(file, command, argument);
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    if (strncmp(path, "/proc/self/fd/", 14) == 0 && fails(FAULT_REOPEN, -1)) return -1;
    return NEXT(open)(path, flags, mode);
}

int getsockopt(int file, int level, int name, void *value, socklen_t *size) {
    if (fails(FAULT_GETSOCKOPT, file)) return -1;
    return NEXT(getsockopt)(file, level, name, value, size);
}

int setsockopt(int file, int level, int name, const void *value, socklen_t size) {
    if (fails(FAULT_SETSOCKOPT, file)) return -1;
    return NEXT(setsockopt)(file, level, name, value, size);
}

int shutdown(int file, int way) {
    return fails(FAULT_SHUTDOWN, file) ? -1 : NEXT(shutdown)(file, way);
}

// dlsym may allocate, so that these are called by their own names.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);

void *malloc(size_t size) {
    return size >= LARGE && fails(FAULT_MALLOC, -1) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    return count * size >= LARGE && fails(FAULT_MALLOC, -1) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) {
    return size >= LARGE && fails(FAULT_MALLOC, -1) ? NULL : __libc_realloc(block, size);
}
