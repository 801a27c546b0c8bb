import { useEffect } from "react";

/** What the window is called while this view is open: it is what a screen reader says first, and what a tab shows. */
export function useTitle(title: string): void {
  useEffect(() => {
    const before = document.title;
    document.title = `${title} - ${HOST}`;
    return () => {
      document.title = before;
    };
  }, [title]);
}

const HOST = "Airflow";
