/* The physical limit: read a pcap of Ethernet frames, look at the ends, the flags and the numbers of every packet.

   It keeps no connections: whoever does more than this needs more time. Prints packets, bytes and a number that
   depends on every header, so that no compiler can leave the reading out. cc -O3 -march=native walk.c -o walk */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static uint64_t load64(const uint8_t *at) { uint64_t value; memcpy(&value, at, 8); return value; }
static uint32_t load32(const uint8_t *at) { uint32_t value; memcpy(&value, at, 4); return value; }

int main(int argc, char **argv) {
    struct stat file;
    int descriptor = argc > 1 ? open(argv[1], O_RDONLY) : -1;
    if (descriptor < 0 || fstat(descriptor, &file) < 0) return perror("walk"), 1;
    const uint8_t *data = mmap(NULL, file.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (data == MAP_FAILED) return perror("walk"), 1;
    const uint8_t *end = data + file.st_size;
    uint64_t packets = 0, bytes = 0, seen = 0;
    for (const uint8_t *record = data + 24; end - record >= 16;) {
        uint32_t captured = load32(record + 8);
        const uint8_t *frame = record + 16, *ip = frame + 14, *transport;
        if (captured > (uint64_t)(end - frame)) break;
        packets++;
        bytes += load32(record + 12);
        record = frame + captured;
        if (captured < 14 + 40) continue;
        uint64_t ends;
        if (ip[0] >> 4 == 4) {
            transport = ip + (ip[0] & 15) * 4;
            ends = load64(ip + 12);
        } else {
            transport = ip + 40;
            ends = load64(ip + 8) ^ load64(ip + 16) * 3 ^ load64(ip + 24) * 5 ^ load64(ip + 32) * 7;
        }
        if (end - transport >= 20)
            seen ^= ends * 0x9E3779B97F4A7C15u ^ load32(transport) ^ load64(transport + 4) ^ transport[13];
    }
    printf("%" PRIu64 " %" PRIu64 " %" PRIx64 "\n", packets, bytes, seen);
    return 0;
}
