// Two threads that wake each other by words of shared memory, in plain C: what waiting on a mapping
// is held against.
#define _GNU_SOURCE
#include "CBench.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct turns {
    uint32_t *words;
    uint32_t rounds;
    int sleeps;
    int processor;
    uint64_t work;
};

enum { WORD_COUNT = 1024, OTHER = 512 };

static void await(uint32_t *word, uint32_t wanted, int sleeps) {
    uint32_t value;
    while ((value = __atomic_load_n(word, __ATOMIC_SEQ_CST)) != wanted) {
        if (sleeps) syscall(SYS_futex, word, FUTEX_WAIT, value, (void *)0, (void *)0, 0);
    }
}

static void tell(uint32_t *word, uint32_t value, int sleeps) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    if (sleeps) syscall(SYS_futex, word, FUTEX_WAKE, 1, (void *)0, (void *)0, 0);
}

void cbench_work(uint64_t nanoseconds) {
    if (nanoseconds == 0) return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t end = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + nanoseconds;
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec < end);
}

static void *answer(void *argument) {
    struct turns *turns = argument;
    cbench_pin(&turns->processor, 1);
    for (uint32_t round = 1; round <= turns->rounds; round++) {
        await(turns->words, round, turns->sleeps);
        cbench_work(turns->work);
        tell(turns->words + OTHER, round, turns->sleeps);
    }
    return NULL;
}

double cbench_turns(int first, int second, uint32_t rounds, int sleeps, uint64_t work) {
    int file = memfd_create("turns", MFD_CLOEXEC);
    if (file < 0) return -1;
    size_t size = WORD_COUNT * sizeof(uint32_t);
    uint32_t *words = MAP_FAILED;
    if (ftruncate(file, (off_t)size) == 0) {
        words = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    }
    close(file);
    if (words == MAP_FAILED) return -1;
    struct turns turns = {words, rounds, sleeps, second, work};
    pthread_t thread;
    double result = -1;
    if (cbench_pin(&first, 1) == 0 && pthread_create(&thread, NULL, answer, &turns) == 0) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (uint32_t round = 1; round <= rounds; round++) {
            cbench_work(work);
            tell(words, round, sleeps);
            await(words + OTHER, round, sleeps);
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        pthread_join(thread, NULL);
        result = ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec))
                / (2.0 * rounds)
            - (double)work;
    }
    munmap(words, size);
    return result;
}
