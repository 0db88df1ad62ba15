/**
 * A map by a number and a text, such as a client's row id and a phone. Joined into one text they would make a new text
 * for every look-up, which costs many times as much as the look-up itself.
 */
export class ScopedMap<V> {
  readonly #byScope = new Map<number, Map<string, V>>();

  get(scope: number, name: string): V | undefined {
    return this.#byScope.get(scope)?.get(name);
  }

  set(scope: number, name: string, value: V): void {
    const names = this.#byScope.get(scope);
    if (names) names.set(name, value);
    else this.#byScope.set(scope, new Map([[name, value]]));
  }

  /** True if it was there. */
  delete(scope: number, name: string): boolean {
    return this.#byScope.get(scope)?.delete(name) ?? false;
  }
}
