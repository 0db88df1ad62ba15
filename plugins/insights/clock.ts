/**
 * The time of day as partners read it: `9:45:30 PM`. Put together here, since the text that Intl makes of a time
 * holds U+202F before AM and PM, and may change with the ICU data of the runtime.
 */

/** Writes the time of day of an instant. */
export type Clock = (at: Date) => string;

/**
 * @param timezone  IANA name
 * @throws RangeError if the runtime does not know the time zone
 */
export function clockOf(timezone: string): Clock {
  return timezone === "UTC" ? readUtcClock : zoneClockOf(timezone);
}

function readUtcClock(at: Date): string {
  return writeTime(at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds());
}

/** A DateTimeFormat takes far longer to make than to use, and holds much memory: the latest zones keep theirs. */
const zoneClocks = new Map<string, Clock>();
const zoneClocksMax = 64;

function zoneClockOf(timezone: string): Clock {
  const known = zoneClocks.get(timezone);
  if (known !== undefined) return known;
  const clock = makeZoneClock(timezone);
  if (zoneClocks.size === zoneClocksMax) zoneClocks.delete(zoneClocks.keys().next().value!);
  zoneClocks.set(timezone, clock);
  return clock;
}

function makeZoneClock(timeZone: string): Clock {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
  return (at) => {
    let hour = 0;
    let minute = 0;
    let second = 0;
    for (const { type, value } of format.formatToParts(at)) {
      if (type === "hour") hour = Number(value);
      else if (type === "minute") minute = Number(value);
      else if (type === "second") second = Number(value);
    }
    return writeTime(hour, minute, second);
  };
}

function writeTime(hour: number, minute: number, second: number): string {
  return `${hour % 12 || 12}:${twoDigits(minute)}:${twoDigits(second)} ${hour < 12 ? "AM" : "PM"}`;
}

function twoDigits(value: number): string {
  return value < 10 ? `0${value}` : `${value}`;
}
