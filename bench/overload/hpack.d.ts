declare module "hpack.js" {
  interface Decompressor {
    write(block: Uint8Array): void;
    execute(): void;
    read(): { readonly name: string; readonly value: string } | null;
    updateTableSize(size: number): void;
  }
  const hpack: { decompressor: { create(options: { table: { maxSize: number } }): Decompressor } };
  export default hpack;
}
