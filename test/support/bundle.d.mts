/** The files to start a replica with, and a process that runs several. */
export declare function bundled(): Promise<{ readonly main: string; readonly host: string }>;
