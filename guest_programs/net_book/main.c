/*
 * A net book: up to 64 signed legs of one expiry in one contract, of which both parties put in their worst case.
 *
 * The holder gains sum(leg) / price: cents times 1/100 BTC summed with their signs, exact in 96 bits, divided once and
 * rounded down. It is paid what it put in and what it gains, at least nothing and at most what the contract holds.
 */
#include "net_book.h"

#define BOOK ((const volatile struct book_input *)0x80000000u)
#define RESULT ((volatile struct book_output *)0x80001000u)

/* The first word that is out of range, as an error code. */
static u32 validate(void) {
    if (BOOK->abi_version != ABI_VERSION)
        return ERROR_ABI_VERSION;
    if (BOOK->count - 1u >= MOST_LEGS)
        return ERROR_QUANTITY;
    u32 spot = BOOK->spot;
    if (spot == 0)
        return ERROR_SPOT;
    if (BOOK->observed_low > spot || BOOK->observed_high < spot)
        return ERROR_OBSERVED_RANGE;
    u32 high = BOOK->collateral_high, low = BOOK->collateral_low;
    u32 most_high = (u32)(MAX_COLLATERAL >> 32), most_low = (u32)MAX_COLLATERAL;
    if (high > most_high || (high == most_high && low > most_low) || (high | low) == 0)
        return ERROR_COLLATERAL;
    u32 own_high = BOOK->own_high;
    if (own_high > high || (own_high == high && BOOK->own_low > low))
        return ERROR_COLLATERAL;
    return ERROR_NONE;
}

static u32 validate_leg(const volatile struct leg *leg, u32 barrier) {
    u32 kind = leg->kind, strike = leg->strike, quantity = leg->quantity;
    if (kind > LEG_FORWARD)
        return ERROR_OPTION_TYPE;
    u32 digital = kind == LEG_DIGITAL_CALL || kind == LEG_DIGITAL_PUT;
    if (strike == 0 || (leg->cash != 0) != digital)
        return ERROR_STRIKE;
    u32 size = quantity >> 31 ? 0u - quantity : quantity;
    if (size - 1u >= MAX_QUANTITY)
        return ERROR_QUANTITY;
    u32 knock_out = leg->knock_out;
    if (knock_out > 1 || (knock_out && (barrier == 0 || barrier == strike)))
        return ERROR_BARRIER;
    return ERROR_NONE;
}

static int refuse(u32 error) {
    RESULT->abi_version = ABI_VERSION;
    RESULT->error = error;
    return 0;
}

int main(void) {
    u32 error = validate();
    if (error)
        return refuse(error);
    u32 count = BOOK->count, spot = BOOK->spot, floor = BOOK->floor, barrier = BOOK->barrier;
    u32 observed_low = BOOK->observed_low, observed_high = BOOK->observed_high;
    u32 price = spot < floor ? floor : spot;
    struct sum total = {0, 0, 0};
    u32 hit = 0;
    for (u32 k = 0; k < count; k++) {
        const volatile struct leg *leg = &BOOK->legs[k];
        error = validate_leg(leg, barrier);
        if (error)
            return refuse(error);
        u32 strike = leg->strike;
        u32 out = knocked_out(barrier & mask(leg->knock_out), strike, observed_low, observed_high);
        payoff(&total, leg->kind, strike, leg->cash, price, leg->quantity, 1u - out);
        hit |= out;
    }
    u32 negative;
    struct wide size, sats;
    if (!size_of(&total, &negative, &size) || !sats_of(size, negative, price, &sats))
        return refuse(ERROR_QUANTITY);

    u32 flip = mask(negative);
    struct wide net = {(sats.low ^ flip) + negative, 0};
    net.high = (sats.high ^ flip) + (negative & (net.low == 0));
    struct wide collateral = {BOOK->collateral_low, BOOK->collateral_high};
    struct wide paid = {BOOK->own_low + net.low, 0};
    paid.high = BOOK->own_high + net.high + (paid.low < net.low);
    if (paid.high >> 31) {
        paid.low = 0;
        paid.high = 0;
    } else if (paid.high > collateral.high || (paid.high == collateral.high && paid.low > collateral.low)) {
        paid = collateral;
    }
    RESULT->payout_low = paid.low;
    RESULT->payout_high = paid.high;
    RESULT->net_low = net.low;
    RESULT->net_high = net.high;
    RESULT->value_low = total.low;
    RESULT->value_high = total.high;
    RESULT->settled_at = price;
    RESULT->barrier_hit = hit;
    RESULT->abi_version = ABI_VERSION;
    RESULT->error = ERROR_NONE;
    return 0;
}
